"""How Python programs talk to the daemon: a method for each endpoint, JSON as dicts, errors as `AdaError`.

    with Client(socket) as ada:
        ada.post("My dog is called Bruno.", app="notes")
        ada.chat("What is my dog called?")["choices"][0]["message"]["content"]

httpx is imported when first needed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ada_memory import errors
from ada_memory.errors import AdaError, BadInput, Conflict, NotFound, Unavailable

if TYPE_CHECKING:
    import httpx

Json = dict[str, Any]

CONNECT_SECONDS = 5.0
CHUNK_BYTES = 1_000_000
"""Body of one request of a batch at most; below the least `socket.max_body_bytes` that one would set."""
SILENCE_SECONDS = 60.0
"""Longest silence on the events' stream; the daemon sends a heartbeat every 15 seconds."""

NDJSON = {"Content-Type": "application/x-ndjson"}
BY_STATUS: Mapping[int, type[AdaError]] = {404: NotFound, 409: Conflict, 503: Unavailable}


class Client:
    """A connection to one daemon. Not for several threads at once, `events` aside, which has its own.

    Every method raises `Unavailable` if the daemon cannot be reached, else the error that it answered.
    """

    def __init__(self, socket: Path, timeout: float = 600.0) -> None:
        self.socket = socket
        self.timeout = timeout
        self._http: httpx.Client | None = None

    def close(self) -> None:
        """Let go of the connection."""
        if self._http is not None:
            self._http.close()
            self._http = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def health(self) -> Json:
        """Whether the daemon answers: {"status", "version"}."""
        return self._get("/v1/health")

    def models(self) -> Json:
        """The generation that serves, in OpenAI's shape."""
        return self._get("/v1/models")

    def status(self) -> Json:
        """How the mind is just now."""
        return self._get("/v1/status")

    def checkup(self, deep: bool = False) -> list[Json]:
        """How the journal is: {"check", "state", "found", "mend"} each; `deep` has every page of it read."""
        return list(self._get("/v1/checkup", {"deep": deep})["checks"])

    def post(self, messages: str | Sequence[Mapping[str, str]], **fields: object) -> Json:
        """Keep an interaction; `fields` are session, app, kind, tags, at, key.

        A text alone is one message of the user. Returns {"id", "position", "duplicate"} once it is on disk.
        """
        return self._post("/v1/interactions", {"messages": _messages(messages), **_given(fields)})

    def batch(
        self, lines: Iterable[Mapping[str, object] | bytes], most_bytes: int = CHUNK_BYTES
    ) -> Iterator[Json]:
        """Keep many interactions in order; yields what became of each, by its number from 1.

        A line is an interaction, {"messages": […], …}, or one that is JSON already. Outcomes are {"line",
        "id", "position", "duplicate"} or {"line", "error"}; a line fails alone, and what was yielded as kept
        is on disk. Requests hold at most `most_bytes`.

        Raises:
            BadInput: `most_bytes` is more than the daemon takes.
        """
        for chunk in _chunks(lines, most_bytes):
            try:
                done = self._ask("POST", "/v1/interactions/batch", content=_body(chunk), headers=NDJSON)
            except BadInput as error:
                if len(chunk) > 1:
                    raise
                yield {"line": chunk[0][0], "error": _described(error)}
                continue
            for outcome in done["lines"]:
                yield {**outcome, "line": chunk[outcome["line"] - 1][0]}

    def chat(
        self, messages: str | Sequence[Mapping[str, str]], *, recall: bool = True, remember: bool = True,
        session: str | None = None, app: str | None = None, **fields: object,
    ) -> Json:
        """Ask; `fields` are OpenAI's: max_tokens, temperature, seed. Returns OpenAI's reply and `ada`."""
        ada = {"recall": recall, "remember": remember, **_given({"session": session, "app": app})}
        body = {"messages": _messages(messages), **_given(fields), "ada": ada}
        return self._post("/v1/chat/completions", body)

    def memories(
        self, query: str | None = None, limit: int | None = None, routes: Sequence[str] | None = None
    ) -> list[Json]:
        """The memories nearest to a query, best first; without one the newest. `routes` leaves out others."""
        asked = _given({"q": query, "limit": limit, "route": list(routes) if routes else None})
        return list(self._get("/v1/memories", asked)["memories"])

    def memory(self, name: str) -> Json:
        """One memory by its id.

        Raises:
            NotFound: there is no such memory.
        """
        return self._get(f"/v1/memories/{name}")

    def sleep(self, until: str | None = None, depth: str | None = None) -> Json:
        """Open a night now, or go on with the one that is held: {"night", "state", "paused"}."""
        return self._post("/v1/sleep", _given({"until": until, "depth": depth}))

    def wake(self) -> Json:
        """End the night that is under way or held; its memories wait for the next."""
        return self._post("/v1/wake", {})

    def pause(self) -> Json:
        """Stop the night that is under way where it is, until `resume`."""
        return self._post("/v1/nights/current/pause", {})

    def resume(self) -> Json:
        """Let the night go on."""
        return self._post("/v1/nights/current/resume", {})

    def nights(self, limit: int | None = None) -> list[Json]:
        """Nights, newest first."""
        return list(self._get("/v1/nights", _given({"limit": limit}))["nights"])

    def night(self, name: str = "latest") -> Json:
        """One night: {"night", "stages", "report", …}."""
        from urllib.parse import quote

        return self._get(f"/v1/nights/{quote(name, safe='')}")

    def why(self, name: str = "latest", limit: int | None = None) -> Json:
        """What a generation, memory, answer, interaction, night or dream came from, and what came of it."""
        from urllib.parse import quote

        return self._get(f"/v1/why/{quote(name.replace('/', ':'), safe='')}", _given({"limit": limit}))

    def rollback(self, to: str | None = None) -> Json:
        """Let the parent, or the generation named, serve again: {"generation", "previous"}."""
        return self._post("/v1/rollback", _given({"to": to}))

    def reset(self) -> Json:
        """Back to the untouched base; memories stay."""
        return self._post("/v1/reset", {})

    def events(self, after: int = 0) -> Iterator[Json]:
        """What happens, as it happens, from the start of the night on; ends when the daemon stops."""
        import httpx

        quiet = httpx.Timeout(CONNECT_SECONDS, read=SILENCE_SECONDS)
        headers = {"Last-Event-ID": str(after)} if after else {}
        with self._reaching(), self._open(quiet) as http:
            with http.stream("GET", "/v1/events", headers=headers) as reply:
                if reply.is_error:
                    reply.read()
                    raise _error(reply)
                for line in reply.iter_lines():
                    if line.startswith("data:"):
                        yield json.loads(line.removeprefix("data:"))

    def _get(self, path: str, query: Mapping[str, Any] | None = None) -> Json:
        return self._ask("GET", path, params=query)

    def _post(self, path: str, body: Mapping[str, object]) -> Json:
        return self._ask("POST", path, json=body)

    def _ask(self, method: str, path: str, **what: Any) -> Json:
        import httpx

        with self._reaching():
            if self._http is None:
                self._http = self._open(httpx.Timeout(self.timeout, connect=CONNECT_SECONDS))
            reply = self._http.request(method, path, **what)
        if reply.is_error:
            raise _error(reply)
        body: Json = reply.json()
        return body

    def _open(self, timeout: httpx.Timeout) -> httpx.Client:
        import httpx

        transport = httpx.HTTPTransport(uds=str(self.socket))
        return httpx.Client(transport=transport, base_url="http://ada", timeout=timeout, trust_env=False)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Say in our words that nobody answers."""
        import httpx

        try:
            yield
        except (httpx.ConnectError, OSError) as error:
            _close_left_open(error)
            self.close()
            raise Unavailable(
                f"no daemon answers on {self.socket}", hint="start it with `ada run`, or name its --home"
            ) from error
        except httpx.TimeoutException as error:
            _close_left_open(error)
            late = f"no answer in time from {self.socket}"
            raise Unavailable(late, hint="`ada doctor` looks into it") from error
        except httpx.TransportError as error:
            self.close()
            raise Unavailable(
                f"the daemon on {self.socket} went away: {error}", hint="start it with `ada run`"
            ) from error


def _close_left_open(error: BaseException) -> None:
    """Close the socket that could not connect: httpcore forgets it in a frame, to be found by its warning."""
    import socket
    import traceback

    for frame, _ in traceback.walk_tb(error.__context__.__traceback__ if error.__context__ else None):
        for held in frame.f_locals.values():
            if isinstance(held, socket.socket):
                held.close()


def _messages(messages: str | Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    if isinstance(messages, str):
        return [{"role": "user", "content": messages}]
    return [dict(message) for message in messages]


def _chunks(
    lines: Iterable[Mapping[str, object] | bytes], most_bytes: int
) -> Iterator[list[tuple[int, bytes]]]:
    """Lines that are not empty, with their numbers, as many at a time as fit into a body."""
    chunk: list[tuple[int, bytes]] = []
    size = 0
    for number, line in enumerate(lines, start=1):
        text = line.strip().replace(b"\n", b" ") if isinstance(line, bytes) else json.dumps(line).encode()
        if not text:
            continue
        if chunk and size + len(text) + 1 > most_bytes:
            yield chunk
            chunk, size = [], 0
        chunk.append((number, text))
        size += len(text) + 1
    if chunk:
        yield chunk


def _body(chunk: Iterable[tuple[int, bytes]]) -> bytes:
    return b"".join(line + b"\n" for _, line in chunk)


def _described(error: AdaError) -> dict[str, str]:
    kind = type(error).__name__
    return {"type": kind, "message": error.message, "field": error.field, "hint": error.hint}


def _given(fields: Mapping[str, object]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _error(reply: httpx.Response) -> AdaError:
    """The error that the daemon answered, as the type that it names."""
    fallback = BY_STATUS.get(reply.status_code, BadInput if reply.is_client_error else AdaError)
    try:
        error = reply.json()["error"]
        kind = getattr(errors, str(error["type"]), fallback)
        known = kind if isinstance(kind, type) and issubclass(kind, AdaError) else fallback
        hint, field = str(error.get("hint", "")), str(error.get("field", ""))
        return known(str(error["message"]), hint=hint, field=field)
    except (ValueError, KeyError, TypeError):
        return fallback(f"the daemon answered {reply.status_code}", hint="its log says more")
