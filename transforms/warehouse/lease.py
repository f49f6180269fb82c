"""Who may write to a warehouse in a bucket: the run that `OUTPUT/_lock` names, while it renews it.

A run holds the lease while it works and renews it by a heartbeat. One that fell silent loses it
after six hours, or at once to a process with the same run id.
"""

from __future__ import annotations

import datetime as dt
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from transforms.errors import RunError
from transforms.warehouse.gcs import ABSENT, Folder, Stored

LOCK: Final = "_lock"


_LEASE: Final = dt.timedelta(hours=6)
"""How long a run that fell silent keeps the warehouse: many heartbeats, and any one bundle."""


_BEAT_SECONDS: Final = 600.0


def acquire(output: str, run_id: str) -> None:
    """Take the warehouse for a run, or renew its hold.

    Raises:
        RunError: Another run is at work there.
    """
    folder = Folder(output)
    held = folder.read(LOCK)
    now = dt.datetime.now(dt.UTC)
    if held is None or _owner(held, output) == run_id or _until(held, output) < now:
        if folder.write(LOCK, _lease(run_id, now), held.generation if held else ABSENT):
            return
        held = folder.read(LOCK)
        if held is not None and _owner(held, output) == run_id:  # its heartbeat was faster
            return
    raise _busy(output, held.document if held else {})


def renew(output: str, run_id: str) -> None:
    """Put off the end of a run's hold; one that was given back stays so.

    Raises:
        RunError: Another run has taken the warehouse.
    """
    folder = Folder(output)
    held = folder.read(LOCK)
    if held is None:
        return
    if _owner(held, output) != run_id:
        raise _busy(output, held.document)
    folder.write(LOCK, _lease(run_id, dt.datetime.now(dt.UTC)), held.generation)


def is_held(output: str, run_id: str) -> bool:
    """True where a run holds the warehouse."""
    held = Folder(output).read(LOCK)
    return held is not None and _owner(held, output) == run_id


def release(output: str, run_id: str) -> None:
    """Give the warehouse back, if this run holds it."""
    if is_held(output, run_id):
        Folder(output).delete([LOCK])


@contextmanager
def kept(output: str, run_id: str) -> Iterator[None]:
    """Renew a run's hold in the background while the block works."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(_BEAT_SECONDS):
            with suppress(RunError):  # the next beat, or the publication, finds out
                renew(output, run_id)

    thread = threading.Thread(target=beat, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _lease(run_id: str, now: dt.datetime) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "host": socket.gethostname(),
        "process": os.getpid(),
        "until": (now + _LEASE).isoformat(),
    }


def _owner(held: Stored, output: str) -> str:
    owner = held.document.get("run_id")
    if not isinstance(owner, str):
        raise _damaged(output)
    return owner


def _until(held: Stored, output: str) -> dt.datetime:
    try:
        return dt.datetime.fromisoformat(held.document["until"]).astimezone(dt.UTC)
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(output) from error


def _damaged(output: str) -> RunError:
    return RunError(
        f"{output}/{LOCK} does not say which run holds the warehouse; if none does: "
        f"gcloud storage rm {output}/{LOCK}"
    )


def _busy(output: str, owner: dict[str, Any]) -> RunError:
    run_id = owner.get("run_id", "unknown")
    return RunError(
        f"run {run_id} (process {owner.get('process', 'unknown')} on "
        f"{owner.get('host', 'unknown')}) is writing to {output}; wait for it, or choose another "
        f"--output. If it is dead, go on with it by --run_id={run_id}, or "
        f"free the warehouse: gcloud storage rm {output}/{LOCK}"
    )
