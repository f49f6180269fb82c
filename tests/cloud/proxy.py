"""A proxy on loopback: notes every request, and answers some itself, as a cloud on a bad day.

To Cloud Storage it adds the one thing that the emulator lacks: generation preconditions.
"""

from __future__ import annotations

import http.client
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

HOP_HEADERS = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclass(frozen=True)
class Request:
    """A request on its way to the server."""

    method: str
    target: str
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.target).query).items()}

    @property
    def job(self) -> Any:
        """The job that the request starts, or None."""
        if self.method == "POST" and self.path.endswith("/jobs"):
            return json.loads(self.body)
        return None

    @property
    def job_id(self) -> str:
        """The id of the job that the request starts, or nothing."""
        job = self.job
        return job.get("jobReference", {}).get("jobId", "") if job else ""


@dataclass(frozen=True)
class Response:
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes


Fault = Callable[[Request], Response | None]
"""Answers a request instead of the server, or lets it pass by None."""


def error(status: int, reason: str, message: str = "injected") -> Response:
    """An error as Google's services write it."""
    body = {
        "error": {
            "code": status,
            "message": message,
            "errors": [{"reason": reason, "message": message}],
        }
    }
    return Response(status, {"Content-Type": "application/json"}, json.dumps(body).encode())


def failed_job(request: Request, reason: str) -> Response:
    """The answer to a job that was accepted, and then failed for a reason of the service's own."""
    status = {"state": "DONE", "errorResult": {"reason": reason, "message": "injected"}}
    body = json.dumps({**request.job, "status": status, "statistics": {}})
    return Response(200, {"Content-Type": "application/json"}, body.encode())


class Proxy:
    """A proxy to a server on loopback.

    Attributes:
        requests: What went through, in order.
        fault: What happens to requests.
        observe: Called with a request and its answer, before the client gets it.
    """

    def __init__(self, port: int, *, preconditions: bool = False) -> None:
        self.requests: list[Request] = []
        self.fault: Fault = lambda _: None
        self.observe: Callable[[Request, Response], None] = lambda _, __: None
        self._port = port
        self._preconditions = preconditions
        # One change at a time: the emulators spend their time on conflicts otherwise.
        self._changing = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def reset(self) -> None:
        """Forget the requests and let all pass."""
        self.requests.clear()
        self.fault = lambda _: None
        self.observe = lambda _, __: None

    def jobs(self, step: str = "") -> list[str]:
        """The ids of the jobs that were asked for, of one step or of all."""
        return [request.job_id for request in self.requests if f"_{step}" in request.job_id]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, request: Request, headers: dict[str, str]) -> Response:
        """What the client gets."""
        if request.method == "GET":
            return self._answer(request, headers)
        with self._changing:
            return self._answer(request, headers)

    def _answer(self, request: Request, headers: dict[str, str]) -> Response:
        self.requests.append(request)
        response = self.fault(request)
        if response is None:
            response = self._refusal(request) or self._forward(request, headers)
            self.observe(request, response)
        return response

    def _forward(self, request: Request, headers: dict[str, str]) -> Response:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request(request.method, request.target, request.body, headers)
            response = connection.getresponse()
            kept = {
                name: value
                for name, value in response.getheaders()
                if name.lower() not in HOP_HEADERS
            }
            return Response(response.status, kept, response.read())
        finally:
            connection.close()

    def _refusal(self, request: Request) -> Response | None:
        wanted = request.query.get("ifGenerationMatch")
        if not self._preconditions or wanted is None:
            return None
        bucket = re.search(r"/b/([^/]+)/o", request.path)
        named = re.search(rb'"name": ?"([^"]+)"', request.body)
        name = named[1].decode() if named else unquote(request.path.rpartition("/o/")[2])
        assert bucket is not None
        target = f"/storage/v1/b/{bucket[1]}/o/{quote(name, safe='')}"
        found = self._forward(Request("GET", target, b""), {})
        generation = json.loads(found.body)["generation"] if found.status == 200 else "0"
        return None if generation == wanted else error(412, "conditionNotMet")

    def _handler(proxy) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - self is the handler below
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_request(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {
                    name: value
                    for name, value in self.headers.items()
                    if name.lower() not in HOP_HEADERS
                }
                response = proxy.answer(Request(self.command, self.path, body), headers)
                self.send_response(response.status)
                for name, value in response.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(response.body)))
                self.end_headers()
                self.wfile.write(response.body)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_request  # noqa: N815

            def handle(self) -> None:
                try:
                    super().handle()
                except ConnectionError:
                    self.close_connection = True  # a client that was killed

            def log_message(self, *_: Any) -> None:
                pass

        return Handler
