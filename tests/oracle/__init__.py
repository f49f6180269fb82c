"""A second, independent answer to every table: plain Python for the input, plain SQL for the rest.

Nothing in this package imports the program it checks. ``oracle_tables`` computes the tables of some
input files, ``assert_tables_equal`` compares them with what the program made of the same files, and
``strategies`` invents such files for hypothesis.
"""
