"""Whatever goes wrong leaves the API in one JSON shape: {"error": {"type", "message", "field", "hint"}}.

Bodies are checked before anything else sees them: time, size, content type, encoding. Values are never
echoed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, cast

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ada_memory.errors import AdaError, BadInput, Conflict, NotFound, Unavailable
from ada_memory.settings import SocketSettings

log = logging.getLogger("ada.api")

RETRY_SECONDS = "5"
ONE_OBJECT = "send one JSON object in UTF-8"
BATCH = "/v1/interactions/batch"
JSON = ("application/json",)
LINES = (
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "application/x-jsonlines",
    "application/json-lines",
)
HINTS = {
    "extra_forbidden": "remove it; /v1/openapi.json lists the fields that are known",
    "missing": "add it",
    "json_invalid": "send valid JSON",
}


class TooLarge(BadInput):
    """A body beyond the limit (HTTP 413)."""


class WrongType(BadInput):
    """A body that does not call itself JSON (HTTP 415)."""


class TooSlow(BadInput):
    """A request that did not come whole in time (HTTP 408)."""


STATUS: tuple[tuple[type[AdaError], int], ...] = (
    (TooSlow, 408),
    (TooLarge, 413),
    (WrongType, 415),
    (NotFound, 404),
    (Conflict, 409),
    (BadInput, 400),
    (AdaError, 503),  # the rest is on our side, and each of it may be well the next time
)
PUBLIC = (NotFound, Conflict, BadInput)


def response(
    error: AdaError, status: int | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """An error as a response; 503 says when to try again."""
    status = status or status_of(error)
    body = describe(error)
    if status == 503:
        body["type"] = Unavailable.__name__ if body["type"] == AdaError.__name__ else body["type"]
        headers = {**(headers or {}), "Retry-After": RETRY_SECONDS}
    return JSONResponse({"error": body}, status, dict(headers or {}))


def status_of(error: AdaError) -> int:
    """The HTTP status of an error."""
    return next(code for kind, code in STATUS if isinstance(error, kind))


def describe(error: AdaError) -> dict[str, str]:
    """An error as callers see it: {"type", "message", "field", "hint"}."""
    kind = next((known.__name__ for known in PUBLIC if isinstance(error, known)), type(error).__name__)
    message, field, hint = (_clean(text) for text in (error.message, error.field, error.hint))
    return {"type": kind, "message": message, "field": field, "hint": hint}


def install(app: FastAPI, limits: SocketSettings) -> None:
    """Give the app its error handlers and the gate before it."""

    async def ours(_: Request, problem: Exception) -> JSONResponse:
        error = cast(AdaError, problem)
        answer = response(error)
        if answer.status_code >= 500:
            log.warning("%s: %s", type(error).__name__, error.message)
        return answer

    async def invalid(_: Request, problem: Exception) -> JSONResponse:
        return response(explain(cast(RequestValidationError, problem).errors()))

    async def http(request: Request, problem: Exception) -> JSONResponse:
        return response(*_http(request, cast(HTTPException, problem)))

    async def unexpected(_: Request, error: Exception) -> JSONResponse:
        log.error("unexpected %s", type(error).__name__, exc_info=error)
        return response(AdaError("something unexpected went wrong", hint="the daemon's log says what"), 500)

    app.add_exception_handler(AdaError, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, unexpected)
    app.add_middleware(Gate, limits=limits)


def _http(request: Request, error: HTTPException) -> tuple[AdaError, int, dict[str, str]]:
    """What the framework itself refuses, in our words."""
    headers, path = dict(error.headers or {}), request.url.path
    if error.status_code == 404:
        return NotFound(f"there is no {path}", hint="/v1/openapi.json lists what there is"), 404, headers
    if error.status_code == 405:
        allowed = headers.get("allow") or headers.get("Allow", "")
        return BadInput(f"{path} does not take {request.method}", hint=f"it takes {allowed}"), 405, headers
    if error.status_code == 400:
        return BadInput("the body is not JSON that can be read", hint=ONE_OBJECT), 400, headers
    return BadInput(str(error.detail)), error.status_code, headers


def explain(errors: Sequence[Mapping[str, Any]]) -> BadInput:
    """The first thing that validation found, as one sentence that names the field."""
    first = errors[0]
    kind = str(first["type"])
    if kind == "json_invalid":
        reason = first.get("ctx", {}).get("error", "")
        return BadInput(f"the body is not JSON: {reason} at byte {first['loc'][-1]}", hint=HINTS[kind])
    place = [part for part in first["loc"] if part not in ("body", "query", "path")]
    field = ".".join(str(part) for part in place)
    if kind == "extra_forbidden":
        return BadInput(f"unknown field {field}", field=field, hint=HINTS[kind])
    message = str(first["msg"]).removeprefix("Value error, ")
    return BadInput(f"{field or 'the body'}: {message}", field=field, hint=HINTS.get(kind, ""))


class Gate:
    """Reads each body whole before the app does: in time, not too large, and of the kind that its path takes.

    JSON must be UTF-8. The batch takes lines of JSON instead, of which each is judged by itself.
    """

    def __init__(self, app: ASGIApp, limits: SocketSettings) -> None:
        self._app = app
        self._most = limits.max_body_bytes
        self._patience = limits.patience_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its body read, or answer what is wrong with it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            body = await self._read(Request(scope), receive)
        except BadInput as error:
            # what is still to come of the body must not be read as the next request
            close = {"Connection": "close"} if isinstance(error, (TooLarge, TooSlow)) else None
            await response(error, headers=close)(scope, receive, send)
            return
        if body is None:  # the caller has gone
            return
        given = False

        async def again() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, again, send)

    async def _read(self, request: Request, receive: Receive) -> bytes | None:
        said = request.headers.get("content-length", "")
        if said.isdecimal() and int(said) > self._most:
            raise self._too_large()
        try:
            async with asyncio.timeout(self._patience):
                body = await self._collect(receive)
        except TimeoutError:
            late = f"the body did not come whole within {self._patience:g} seconds"
            raise TooSlow(late, hint="send it in one go, or raise socket.patience_seconds") from None
        if body:
            _check(request, body)
        return body

    async def _collect(self, receive: Receive) -> bytes | None:
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return None
            part = message.get("body", b"")
            size += len(part)
            if size > self._most:
                raise self._too_large()
            parts.append(part)
            if not message.get("more_body"):
                return b"".join(parts)

    def _too_large(self) -> TooLarge:
        most = f"the body is larger than {self._most} bytes"
        return TooLarge(most, hint="send less at a time, or raise socket.max_body_bytes")


def _check(request: Request, body: bytes) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    batch = request.url.path == BATCH
    known = LINES if batch else JSON
    if kind not in known:
        what = "lines of JSON" if batch else "JSON"
        raise WrongType(f"the body must be {what}", hint=f"send it with Content-Type: {known[0]}")
    if batch:
        return  # a line that is not UTF-8 fails alone
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"the body is not UTF-8 at byte {error.start}", hint=ONE_OBJECT) from None


def _clean(text: str) -> str:
    """Text that can be encoded, even where a caller's field name could not, and of a bounded length."""
    return text.encode("utf-8", "replace").decode("utf-8")[:2000]
