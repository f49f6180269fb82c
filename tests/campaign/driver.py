"""A process that runs the pipeline whenever it is told to, with a fault that it is told of.

Reads a JSON object a line: `arguments`, and `below`, `call`, `nth`, `error` for `faults.c`. Answers
with one: `code`, what was printed on standard error, and how many calls of each kind there were.
"""

import contextlib
import ctypes
import io
import json
import sys

import pipelines.run  # noqa: F401 - slow, and so done before it is told
from pipelines import customer_analytics

CALLS = ("open", "rename", "link", "fsync")


def main() -> None:
    """Serve until standard input ends."""
    shim = ctypes.CDLL(None)
    shim.fault_count.restype = ctypes.c_long
    answers = sys.stdout
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        told = json.loads(line)
        errors = io.StringIO()
        shim.fault_arm(
            told["below"].encode(), told["call"].encode(), ctypes.c_long(told["nth"]), told["error"]
        )
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            code = customer_analytics.main(told["arguments"])
        calls = {call: shim.fault_count(call.encode()) for call in CALLS}
        shim.fault_arm(b"", b"", ctypes.c_long(0), 0)
        print(
            json.dumps({"code": code, "stderr": errors.getvalue(), "calls": calls}),
            file=answers,
            flush=True,
        )


if __name__ == "__main__":
    main()
