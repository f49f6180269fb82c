"""The steps of Cloud Workflows that the templates use, executed; anything else is refused."""

from __future__ import annotations

import base64
import datetime as dt
import heapq
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

RETRIED = {429, 500, 502, 503, 504}
RETRIED_NON_IDEMPOTENT = {429, 503}
ATTEMPTS = 5


class RaisedError(Exception):
    """What a step raised."""

    def __init__(self, value: Any) -> None:
        super().__init__(str(value))
        self.value = value


class Map(dict):
    """A map whose keys an expression names after a dot."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise RaisedError({"tags": ["KeyError"], "message": f"key not found: {name}"}) from None


def mapped(value: Any) -> Any:
    if isinstance(value, Mapping):
        return Map({key: mapped(inside) for key, inside in value.items()})
    if isinstance(value, list):
        return [mapped(inside) for inside in value]
    return value


@dataclass(frozen=True)
class Jump:
    """Where to go on, or what to give back."""

    next: str | None = None
    value: Any = None


@dataclass
class Execution:
    """One execution of a workflow; a generator that yields the seconds it sleeps.

    Args:
        path: The workflow's YAML.
        environment: What `sys.get_env` reads.
        clock: What tells the time: an object with `now`, in seconds.
        servers: Addresses, by the host that the workflow names.
        logged: Where `sys.log` writes.
    """

    path: Path
    environment: Mapping[str, str]
    clock: Any
    servers: Mapping[str, str]
    logged: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._workflows = yaml.safe_load(self.path.read_text(encoding="utf-8"))
        self._library = {
            "base64": SimpleNamespace(decode=base64.b64decode),
            "default": lambda value, other: other if value is None else value,
            "http": SimpleNamespace(
                default_retry=RETRIED, default_retry_non_idempotent=RETRIED_NON_IDEMPOTENT
            ),
            "int": int,
            "map": SimpleNamespace(get=lambda a_map, key: a_map.get(key)),
            "sys": SimpleNamespace(
                get_env=self.environment.__getitem__, now=lambda: self.clock.now
            ),
            "text": SimpleNamespace(
                decode=bytes.decode,
                match_regex=lambda text, regex: re.search(regex, text) is not None,
            ),
            "time": SimpleNamespace(parse=lambda text: dt.datetime.fromisoformat(text).timestamp()),
            "__builtins__": {},
        }

    def run(self, event: Any = None) -> Generator[float, None, Any]:
        return (yield from self._call("main", {"event": event}))

    def _call(self, name: str, arguments: Mapping[str, Any]) -> Generator[float, None, Any]:
        workflow = self._workflows[name]
        assert workflow.keys() <= {"params", "steps"}
        params = workflow.get("params", [])
        assert name == "main" or set(params) == arguments.keys()
        variables = {param: mapped(arguments[param]) for param in params}
        jump = yield from self._steps(workflow["steps"], variables)
        assert jump is None or jump.next is None, f"there is no step {jump.next}"
        return None if jump is None else jump.value

    def _steps(self, steps, variables) -> Generator[float, None, Jump | None]:
        names = [next(iter(step)) for step in steps]
        assert len(set(names)) == len(names)
        at = 0
        while at < len(steps):
            ((_, step),) = steps[at].items()
            jump = yield from self._step(step, variables)
            at += 1
            if jump is not None:
                if jump.next not in names:
                    return jump  # a value, or a step of those around
                at = names.index(jump.next)
        return None

    def _step(self, step, variables) -> Generator[float, None, Jump | None]:
        step = dict(step)
        target = step.pop("next", None)
        jump = None
        match sorted(step):
            case ["assign"]:
                for assigned in step["assign"]:
                    ((name, value),) = assigned.items()
                    variables[name] = self._value(value, variables)
            case ["args", "call"] | ["args", "call", "result"]:
                arguments = self._value(step["args"], variables)
                result = yield from self._function(step["call"], arguments)
                if "result" in step:
                    variables[step["result"]] = result
            case ["switch"]:
                jump = self._switch(step["switch"], variables)
            case ["return"]:
                jump = Jump(value=self._value(step["return"], variables))
            case ["raise"]:
                raise RaisedError(self._value(step["raise"], variables))
            case ["retry", "try"] | ["except", "try"] | ["except", "retry", "try"]:
                jump = yield from self._try(step, variables)
            case other:
                raise AssertionError(f"not known to this interpreter: {other}")
        return jump or (Jump(target) if target else None)

    def _switch(self, cases, variables) -> Jump | None:
        for case in cases:
            assert case.keys() in ({"condition", "next"}, {"condition", "return"})
            if self._value(case["condition"], variables):
                if "next" in case:
                    return Jump(case["next"])
                return Jump(value=self._value(case["return"], variables))
        return None

    def _try(self, step, variables) -> Generator[float, None, Jump | None]:
        tried = step["try"]
        retried = self._value(step["retry"], variables) if "retry" in step else set()
        for attempt in range(ATTEMPTS):
            try:
                if "steps" in tried:
                    return (yield from self._steps(tried["steps"], variables))
                return (yield from self._step(tried, variables))
            except RaisedError as error:
                code = error.value.get("code") if isinstance(error.value, Mapping) else None
                if code in retried and attempt + 1 < ATTEMPTS:
                    yield 2.0**attempt
                    continue
                if "except" not in step:
                    raise
                caught = step["except"]
                assert caught.keys() == {"as", "steps"}
                inside = {**variables, caught["as"]: error.value}
                return (yield from self._steps(caught["steps"], inside))
        return None

    def _function(self, name: str, arguments: Map) -> Generator[float, None, Any]:
        if name in ("http.get", "http.post"):
            return self._request(name.removeprefix("http.").upper(), **arguments)
        if name == "sys.sleep":
            yield float(arguments["seconds"])
            return None
        if name == "sys.log":
            assert arguments.keys() <= {"json", "severity", "text"}
            self.logged.append(arguments)
            return None
        return (yield from self._call(name, arguments))

    def _request(self, method, url, *, auth=None, query=None, body=None, timeout=None) -> Map:
        host, _, path = url.removeprefix("https://").partition("/")
        assert (auth == {"type": "OAuth2"}) is host.endswith(".googleapis.com"), "who sees a token"
        request = urllib.request.Request(
            f"{self.servers[host]}/{host}/{path}"
            + (f"?{urllib.parse.urlencode(query)}" if query else ""),
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return mapped({"code": answer.status, "body": json.loads(answer.read() or b"{}")})
        except urllib.error.HTTPError as error:
            with error:
                raise RaisedError(Map(code=error.code, tags=["HttpError"])) from None

    def _value(self, written: Any, variables: Mapping[str, Any]) -> Any:
        if isinstance(written, Mapping):
            return Map({key: self._value(value, variables) for key, value in written.items()})
        if isinstance(written, list):
            return [self._value(value, variables) for value in written]
        if isinstance(written, str) and written.startswith("${"):
            assert written.endswith("}"), written
            return eval(written[2:-1], {**self._library, **variables})  # noqa: S307 - our own text
        return written


@dataclass
class Timeline:
    """Executions that take turns: time passes only while all of them sleep."""

    now: float = 0.0
    ended: dict[str, Any] = field(default_factory=dict)
    _waiting: list[tuple[float, int, str, Iterator[float]]] = field(default_factory=list)

    def start(self, name: str, execution: Iterator[float], at: float) -> None:
        heapq.heappush(self._waiting, (at, len(self._waiting), name, execution))

    def run(self, started=lambda name: None) -> None:
        """Until all have ended: in `ended`, what each returned or raised."""
        turn = len(self._waiting)
        begun = set()
        while self._waiting:
            self.now, _, name, execution = heapq.heappop(self._waiting)
            if name not in begun:
                begun.add(name)
                started(name)
            try:
                seconds = next(execution)
            except StopIteration as stop:
                self.ended[name] = stop.value
            except RaisedError as raised:
                self.ended[name] = raised
            else:
                turn += 1
                heapq.heappush(self._waiting, (self.now + seconds, turn, name, execution))
