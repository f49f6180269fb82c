"""The metrics tables, a module each.

`metric` says what a metric is, `registry` finds all of them. A module that exports `METRIC` is
computed, published, audited and documented.
"""
