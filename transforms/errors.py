"""Errors that are written for the person who runs the pipeline."""

from __future__ import annotations


class RunError(Exception):
    """The run failed, for a reason the message explains in full: what, where, how to fix it.

    Raised on a worker it crosses the runner as text, so the message is all that is certain to
    arrive; `pipelines.failures` finds it there and prints it alone.
    """


class InputError(RunError):
    """The input cannot be read: missing, damaged, or with the wrong header."""
