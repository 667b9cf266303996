"""A daemon that only pretends: canned answers over a real Unix socket, for tests of those who talk to it."""

from __future__ import annotations

import json
import shutil
import socketserver
import tempfile
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

Answer = tuple[int, Any]
Reply = Answer | Callable[[dict[str, Any]], Answer]


def problem(status: int, kind: str, message: str, hint: str = "") -> Answer:
    """An error in the API's one shape."""
    return status, {"error": {"type": kind, "message": message, "field": "", "hint": hint}}


class FakeDaemon:
    """Answers `replies["GET /v1/status"]` and so on; `asked` keeps (route, body, query) of every request.

    `streams` are the lives of GET /v1/events: each connection is sent the next list, then is closed.
    `drained` is called after the last one, so that a test can let the night end.
    """

    def __init__(self, replies: Mapping[str, Reply]) -> None:
        self.replies = dict(replies)
        self.asked: list[tuple[str, dict[str, Any], dict[str, list[str]]]] = []
        self.streams: list[list[dict[str, Any]]] = []
        self.drained: Callable[[], None] = lambda: None

    def __enter__(self) -> FakeDaemon:
        self.folder = Path(tempfile.mkdtemp(prefix="ada", dir="/tmp"))  # short: a socket's path is limited
        self.socket = self.folder / "ada.sock"
        self._server = _Server(str(self.socket), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        shutil.rmtree(self.folder)

    def bodies(self, route: str) -> list[dict[str, Any]]:
        """The bodies that were sent to a route, in order."""
        return [body for asked, body, _ in self.asked if asked == route]


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


def _handler(fake: FakeDaemon) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def address_string(self) -> str:
            return "unix"

        def log_message(self, format: str, *args: object) -> None:
            """Silence."""

        def do_GET(self) -> None:
            if urlsplit(self.path).path == "/v1/events":
                self._stream()
            else:
                self._answer("GET")

        def do_POST(self) -> None:
            self._answer("POST")

        def _answer(self, method: str) -> None:
            target = urlsplit(self.path)
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size) or b"{}")
            route = f"{method} {target.path}"
            fake.asked.append((route, body, parse_qs(target.query)))
            reply = fake.replies.get(route, problem(404, "NotFound", f"there is no {route}"))
            status, value = reply(body) if callable(reply) else reply
            sent = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def _stream(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self.wfile.write(b": ada\n\n")
            for number, event in enumerate(fake.streams.pop(0) if fake.streams else [], start=1):
                lines = f"id: {number}\nevent: {event['event']}\ndata: {json.dumps(event)}\n\n"
                self.wfile.write(lines.encode())
            if not fake.streams:
                fake.drained()

    return Handler
