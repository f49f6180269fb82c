"""What must hold before a run is published.

`checks` and `measures` look at each batch as it is staged, `balance` at what became of the rows
read, `plausibility` at what is allowed and hardly meant; `merging` adds up what they report.
"""
