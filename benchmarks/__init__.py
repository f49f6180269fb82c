"""Measurements against other engines."""
