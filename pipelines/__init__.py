"""The programs a user starts."""

import gc

# Importing Beam and running a graph make many objects that stay; with Python's own thresholds the
# collector looks through all of them again and again, for half a second of every run.
gc.set_threshold(20_000, 50, 1000)
