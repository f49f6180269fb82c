"""Objects of a bucket: the few small ones that need more than Beam's file systems give."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from google.api_core.exceptions import GoogleAPIError, NotFound, PreconditionFailed
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY

from transforms.errors import RunError

_SCHEME: Final = "gs://"


_RETRY: Final = DEFAULT_RETRY.with_timeout(60.0)


_MESSAGE: Final = re.compile(r'"message": ?"([^"]+)"')


_DELETE_THREADS: Final = 8  # a deletion is a round trip


@dataclass(frozen=True)
class Stored:
    """A JSON object of a bucket, and its generation: the version that a later write replaces."""

    document: dict[str, Any]
    generation: int


class Listed(NamedTuple):
    """When an object was written, and its bytes."""

    written: dt.datetime
    size: int


ABSENT: Final = 0
"""The generation of an object that does not exist."""


class Folder:
    """A gs:// folder.

    Args:
        path: Its path.
    """

    def __init__(self, path: str) -> None:
        self.path = path.rstrip("/")
        name, _, prefix = self.path.removeprefix(_SCHEME).partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._bucket = storage.Client().bucket(name)

    def read(self, name: str) -> Stored | None:
        """Read a JSON object; None where there is none."""
        with _explained(f"{self.path}/{name}", "read"):
            while (blob := self._bucket.get_blob(self._prefix + name, retry=_RETRY)) is not None:
                generation = int(blob.generation)
                with suppress(NotFound, PreconditionFailed):  # replaced or removed in between
                    data = blob.download_as_bytes(if_generation_match=generation, retry=_RETRY)
                    return Stored(_parsed(data, f"{self.path}/{name}"), generation)
        return None

    def write(self, name: str, document: Mapping[str, Any], generation: int) -> bool:
        """Write a JSON object if its generation is still the one given.

        Returns:
            True where the object now holds this document, also if an earlier attempt wrote it.
        """
        with _explained(f"{self.path}/{name}", "written"):
            try:
                self._bucket.blob(self._prefix + name).upload_from_string(
                    json.dumps(document, indent=2) + "\n",
                    content_type="application/json",
                    if_generation_match=generation,
                    retry=_RETRY,
                )
            except PreconditionFailed:
                stored = self.read(name)
                return stored is not None and stored.document == document
        return True

    def list(self, prefix: str) -> Mapping[str, Listed]:
        """The objects below a prefix, by name within this folder."""
        with _explained(f"{self.path}/{prefix}", "listed"):
            return {
                blob.name.removeprefix(self._prefix): Listed(blob.updated, blob.size)
                for blob in self._bucket.list_blobs(prefix=self._prefix + prefix, retry=_RETRY)
            }

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects; one that is gone already does not matter."""
        with _explained(self.path, "cleaned"), ThreadPoolExecutor(_DELETE_THREADS) as threads:
            list(threads.map(self._delete, names))

    def _delete(self, name: str) -> None:
        with suppress(NotFound):
            self._bucket.blob(self._prefix + name).delete(retry=_RETRY)


def _parsed(data: bytes, path: str) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise RunError(
            f"{path} is no JSON object: it was not written by this program, or is damaged. "
            f"Move it away, or choose another --output; try: gcloud storage cat {path}"
        )
    return document


@contextmanager
def _explained(path: str, done: str) -> Iterator[None]:
    """Turn the client's errors into one that says what to do.

    Raises:
        RunError: The bucket did not answer as it should.
    """
    try:
        yield
    except (PreconditionFailed, NotFound):
        raise
    except GoogleAPIError as error:
        raise RunError(
            f"{path} cannot be {done}: {describe(error)}. Check the bucket and that the account "
            "of the run has roles/storage.objectUser on it, then run again."
        ) from error


def describe(error: Exception) -> str:
    """What a Google service or client complains of, in one line, without the request's URL."""
    cause = getattr(error, "cause", None) or error
    text = str(getattr(cause, "message", "") or cause) or type(cause).__name__
    details = [str(detail.get("message", "")) for detail in getattr(cause, "errors", None) or ()]
    details += _MESSAGE.findall(text)  # an upload's error holds the answer as it came
    return " ".join(next(filter(None, details), text).split()).rstrip(".")
