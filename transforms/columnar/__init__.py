"""The engine room: kernels, arrays, hashes and money; no Beam, no words of the business.

`kernels` compiles loops; `key_index` numbers and hashes keys; `money` is exact arithmetic; `ntile`
ranks what is spread over shards; `product_codes` and `packing` make events small. The others are
loops for one purpose each, by name.
"""
