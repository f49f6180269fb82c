import os
import sys
import time
from pathlib import Path

import pytest

from benchmarks.measuring import CommandFailedError, measure

MEGABYTE = 1 << 20
# Holds memory until it has been looked at several times.
HOLD = "import time; held = bytearray(b'x') * (100 << 20); time.sleep(1)"


def python(code):
    return measure([sys.executable, "-c", code], os.environ)


def test_one_process():
    cost = python(HOLD)
    assert 100 * MEGABYTE < cost.peak_bytes < 150 * MEGABYTE
    assert cost.seconds > 1


def test_memory_of_all_processes():
    code = f"import subprocess, sys; one = [sys.executable, '-c', {HOLD!r}]; "
    code += "both = [subprocess.Popen(one) for _ in range(2)]; [p.wait() for p in both]"
    assert python(code).peak_bytes > 200 * MEGABYTE


def test_shared_pages_count_once():
    code = "import os, time; held = bytearray(b'x') * (100 << 20)\n"
    code += "if os.fork():\n    os.wait()\nelse:\n    time.sleep(1)"
    assert 100 * MEGABYTE < python(code).peak_bytes < 150 * MEGABYTE


def test_cpu_seconds_of_all_processes():
    burn = "import time\nwhile time.process_time() < 0.5: pass"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])\n{burn}"
    assert python(code).cpu_seconds > 1


def test_nothing_is_left_running(tmp_path):
    pid = tmp_path / "pid"
    code = "import subprocess, pathlib; p = subprocess.Popen(['sleep', '60'])\n"
    code += f"pathlib.Path({str(pid)!r}).write_text(str(p.pid))"
    python(code)
    status = Path(f"/proc/{pid.read_text()}/stat")
    while status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)


def test_failure_shows_what_was_said():
    with pytest.raises(CommandFailedError, match=r"exit code 3 of .*\nwhat happened") as failure:
        python("import sys; print('what happened', file=sys.stderr); sys.exit(3)")
    assert "print" in str(failure.value)
