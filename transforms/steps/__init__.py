"""The stages of the pipeline as Beam steps, which only move frames."""
