"""How frames cross a shuffle.

`partition.GroupFrames` brings the rows of a shard together, `combine.CombineFrames` adds up small
frames on the way, `partition.StoreFrames` and `stores.collect_frames` are the two ends of a side
input, and `sizing` says how many shards there are.
"""
