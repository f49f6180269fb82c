"""Columnar Beam transforms for e-commerce clickstreams: the element is a batch, never a row."""

import os

# Memory that is soon needed again stays: giving it back and getting it again is a fifth of a run.
# Polars reads this once, at its first import; every module that a worker unpickles is below here.
os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:10000,muzzy_decay_ms:0")
