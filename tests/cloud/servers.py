"""Starts a GCS and a BigQuery server on loopback."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import skip_or_fail

LOCK = Path(__file__).with_name("requirements-bigquery-emulator.lock")
EXTENSIONS = ("ducklake", "icu", "spatial")
START_SECONDS = 60


def free_port() -> int:
    """A port that nobody uses at this moment."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def bigquery_environment() -> Path:
    """The folder of the BigQuery server's environment; made on first use, then kept in the cache.

    The server needs another DuckDB than the program, and Python 3.13.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "estore-analytics"
    key = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:16]
    environment = cache / f"bigquery-emulator-{key}"
    cache.mkdir(parents=True, exist_ok=True)
    with environment.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (environment / "complete").exists():
            make_environment(environment)
            (environment / "complete").touch()
    return environment


def make_environment(environment: Path) -> None:
    uv = find_uv()
    python = find_python(uv)
    for command in (
        [uv, "venv", "--quiet", "--clear", "--no-python-downloads", "--python", python],
        [uv, "pip", "sync", "--quiet", "--require-hashes", str(LOCK), "--python"],
    ):
        subprocess.run([*command, str(environment)], check=True, timeout=240)
    (environment / "home").mkdir()
    subprocess.run(
        [
            environment / "bin/python",
            "-c",
            f"import duckdb_extensions as d\nfor name in {EXTENSIONS}: d.import_extension(name)",
        ],
        env={**os.environ, "HOME": str(environment / "home")},
        check=True,
        timeout=60,
    )


def find_uv() -> str:
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if uv is None:
        skip_or_fail("the BigQuery emulator needs uv to install it: make setup")
    return uv


def find_python(uv: str) -> str:
    """An interpreter of Python 3.13: this one, PATH's, uv's or pyenv's."""
    found = subprocess.run(
        [uv, "python", "find", "--no-python-downloads", "3.13"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    candidates = [
        sys.executable,
        shutil.which("python3.13"),
        found.stdout.strip(),
        *sorted(map(str, pyenv.glob("versions/3.13.*/bin/python3.13"))),
    ]
    python = next(filter(is_python, filter(None, candidates)), None)
    if python is None:
        skip_or_fail("the BigQuery emulator needs Python 3.13; try: uv python install 3.13")
    return python


def is_python(candidate: str) -> bool:
    """True for an interpreter of Python 3.13 that starts; a shim may not."""
    version = subprocess.run(
        [candidate, "-c", "import sys; print(*sys.version_info[:2])"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return version.stdout.split() == ["3", "13"]


@contextmanager
def running(command: list[str], url: str, log: Path, **environment: str) -> Iterator[None]:
    """Run a server, once it answers, until the block ends."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **environment}
        )
        try:
            wait_for(url, process, log)
            yield
        finally:
            process.terminate()
            process.wait(20)


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except urllib.error.HTTPError as error:
            error.close()
            return
        except OSError:
            time.sleep(0.05)
        else:
            return
    message = f"{url} does not answer: {log.read_text(errors='replace')[-2000:]}"
    raise RuntimeError(message)


@contextmanager
def storage_server(folder: Path) -> Iterator[int]:
    """A GCS server; gives its port. Objects are files at `folder`/gcs/BUCKET/NAME."""
    port = free_port()
    command = shutil.which("gcp-storage-emulator", path=str(Path(sys.executable).parent))
    assert command is not None, "gcp-storage-emulator is in requirements-dev.lock"
    with running(
        [command, "start", "--host", "127.0.0.1", "--port", str(port), "-q"],
        f"http://127.0.0.1:{port}/storage/v1/b?project=test-project",
        folder / "gcs.log",
        STORAGE_BASE=str(folder),
        STORAGE_DIR="gcs",
    ):
        yield port


@contextmanager
def bigquery_server(folder: Path) -> Iterator[int]:
    """A BigQuery server that loads from `storage_server`'s folder; gives its port."""
    environment = bigquery_environment()
    port = free_port()
    with running(
        [
            str(environment / "bin/local-bigquery"),
            *("--host", "127.0.0.1", "--port", str(port), "--grpc-port", str(free_port())),
            *("--data-dir", str(folder / "bigquery"), "--project", "test-project"),
        ],
        f"http://127.0.0.1:{port}/bigquery/v2/projects/test-project/datasets",
        folder / "bigquery.log",
        GCS_LOCAL_ROOT=str(folder / "gcs"),
        HOME=str(environment / "home"),
    ):
        yield port
