"""The metrics tables, a module each."""
