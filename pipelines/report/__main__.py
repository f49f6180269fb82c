"""Write the report of a finished run: `python -m pipelines.report --warehouse warehouse/`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems
from google.auth.exceptions import GoogleAuthError

from pipelines.report.reading import parse_dataset, read_bigquery, read_warehouse
from pipelines.report.rendering import render_report
from pipelines.report.screenshots import find_browser, page_images
from transforms.errors import RunError


def _dataset(name: str) -> str:
    try:
        parse_dataset(name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return name


def _warehouse(path: str) -> str:
    if "://" not in path and not Path(path).is_dir():
        raise argparse.ArgumentTypeError(f"{path!r} is not a folder.")
    return path


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pipelines.report", description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--warehouse",
        type=_warehouse,
        metavar="PATH",
        help="folder or gs:// prefix that the pipeline wrote its tables to",
    )
    source.add_argument(
        "--bigquery_dataset",
        type=_dataset,
        metavar="PROJECT.DATASET",
        help="dataset that the pipeline published its tables to",
    )
    parser.add_argument(
        "--output",
        default="report.html",
        metavar="FILE",
        help="HTML file to write, local or gs:// (default: report.html)",
    )
    parser.add_argument(
        "--export",
        choices=["png"],
        help="also write each page as an image beside the HTML file; needs Chromium",
    )
    return parser.parse_args(argv)


def _write(path: str, content: bytes, mime_type: str) -> None:
    try:
        with FileSystems.create(path, mime_type, CompressionTypes.UNCOMPRESSED) as file:
            file.write(content)
    except (BeamIOError, OSError, ValueError, GoogleAuthError) as error:
        raise RunError(f"Cannot write {path}: {error}") from error
    print(f"Wrote {path}")


def main(argv: Sequence[str] | None = None) -> int:
    """Read the tables, write the report; return the exit code (2 for usage, 1 for a failure)."""
    options = _arguments(argv)
    try:
        if options.export:
            find_browser()
        tables = (
            read_bigquery(options.bigquery_dataset)
            if options.bigquery_dataset
            else read_warehouse(options.warehouse)
        )
        html = render_report(tables)
        _write(options.output, html.encode(), "text/html")
        if options.export:
            stem = options.output.removesuffix(PurePosixPath(options.output).suffix)
            for name, image in page_images(html).items():
                _write(f"{stem}-{name}.png", image, "image/png")
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
