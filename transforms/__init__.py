"""Columnar Beam transforms for e-commerce clickstreams: the element is a batch, never a row."""

import os

# Beam runs one worker per core, so more threads for each of them would only oversubscribe them.
# Polars reads this once, at its first import; every module that a worker unpickles is below here.
os.environ.setdefault("POLARS_MAX_THREADS", "1")
