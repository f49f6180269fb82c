"""Bytes to event batches: files, lines, the CSV's grammar, the parser and the batch it makes.

`files.match_inputs` finds what to read, `split_files` cuts it, `read_blocks` reads it, and
`parsing.parse_block` makes the batches that `batch` describes.
"""
