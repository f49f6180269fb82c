"""Bytes to event batches: files, lines, the CSV's grammar, the parser and the batch it makes."""
