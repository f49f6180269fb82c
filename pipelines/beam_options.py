"""Which options are Beam's: asked of Beam itself, and only where some are not the pipeline's."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence
from typing import NoReturn

from apache_beam.options.pipeline_options import PipelineOptions, _BeamArgumentParser

from pipelines.options import UsageError


class _BeamParser(_BeamArgumentParser):
    """A parser of Beam's options that raises instead of leaving."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def beam_parser() -> argparse.ArgumentParser:
    """A parser of all options of Beam."""
    parser = _BeamParser(allow_abbrev=False)
    for subclass in PipelineOptions.__subclasses__():
        subclass._add_argparse_args(parser)  # noqa: SLF001 - the way Beam itself collects them
    return parser


def require_known(beam_arguments: Sequence[str], own: Sequence[str]) -> None:
    """Check that Beam knows options; by itself it would ignore those that it does not.

    Args:
        beam_arguments: The part of a command line that is not the pipeline's.
        own: Names of the pipeline's options, which may have been meant.

    Raises:
        UsageError: Names the first that it does not know, and the nearest that exists.
    """
    parser = beam_parser()
    _, unknown = parser.parse_known_args(list(beam_arguments))
    if unknown:
        known = [name for action in parser._actions for name in action.option_strings]  # noqa: SLF001
        name = unknown[0].partition("=")[0]
        near = difflib.get_close_matches(name, [*known, *own], 1)
        hint = f"; did you mean {near[0]}?" if near else "; see --help"
        raise UsageError(f"unknown option {unknown[0]}{hint}")
