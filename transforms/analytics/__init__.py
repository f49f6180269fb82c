"""Business rules: pure functions from Polars frames to Polars frames, without Beam.

`in_memory.tables_in_memory` makes all tables of some rows: the way in. The steps of a run call
`session_shard.session_shard`, `user_shard.combine_shard` and `user_shard.describe_shard`, and
`metrics.registry` for the metrics; each other module is one concept with its rules.
"""
