"""Business rules: pure functions from Polars frames to Polars frames, without Beam."""
