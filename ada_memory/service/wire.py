"""The Unix socket: a path goes in, a listening socket with mode 0600 comes out. One daemon a path.

Also who is at the other end, whose uid requests carry as their client, and how long it may keep us waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import socket
import stat
import struct
import sys
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any

import h11
import uvicorn
from starlette.requests import Request
from uvicorn.protocols.http.h11_impl import H11Protocol

from ada_memory.errors import BadSetting, Conflict

LONGEST_PATH = 104
"""Bytes that macOS leaves for a socket's path, closing zero included; Linux has 108."""

BACKLOG = 512

_DARWIN_SOL_LOCAL = 0
_DARWIN_LOCAL_PEERCRED = 1


class Door:
    """The socket of this daemon, and the lock that says that it is its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None
        self._inode: int | None = None
        self.socket: socket.socket | None = None

    def __enter__(self) -> socket.socket:
        """Take the path and listen: who comes from here on waits until the daemon is awake.

        Raises:
            BadSetting: the path cannot be a socket's.
            Conflict: another daemon has it.
        """
        check(self.path)
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = _own(self.path)
        try:
            _clear(self.path)
            self.socket = _bind(self.path)
        except BaseException:
            os.close(self._lock)
            raise
        self._inode = self.path.stat().st_ino
        return self.socket

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the socket if it is still ours, then let go of the path."""
        if self.socket is not None:
            self.socket.close()
        with contextlib.suppress(FileNotFoundError):
            if self.path.stat().st_ino == self._inode:
                self.path.unlink()
        if self._lock is not None:
            os.close(self._lock)


def check(path: Path) -> None:
    """Raises BadSetting if the path is too long for a socket."""
    size = len(os.fsencode(path))
    if size >= LONGEST_PATH:
        raise BadSetting(
            f"the socket path is {size} bytes long, and at most {LONGEST_PATH - 1} work everywhere: {path}",
            hint="set socket.path to a shorter one, such as /tmp/ada.sock",
            field="socket.path",
        )


def _own(path: Path) -> int:
    """Hold the lock beside the socket for as long as the process lives."""
    lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise _taken(path) from None
    return lock


def _taken(path: Path) -> Conflict:
    return Conflict(
        f"a daemon is running on {path} already",
        hint="stop it first, or give this one another --home",
        field="socket.path",
    )


def _clear(path: Path) -> None:
    """Remove what a daemon that died has left; nothing but a socket where nobody answers."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise BadSetting(
            f"{path} is there already and is not a socket",
            hint="move it away, or set socket.path to another path",
            field="socket.path",
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError as error:
            if error.errno not in (errno.ECONNREFUSED, errno.ENOENT):
                raise _taken(path) from error  # full backlog, no permission: somebody is there
        else:
            raise _taken(path)
    path.unlink(missing_ok=True)


def _bind(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)  # the file is 0600 from its first moment on
    try:
        sock.bind(str(path))
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    finally:
        os.umask(before)
    sock.setblocking(False)
    return sock


def peer_uid(sock: socket.socket) -> int | None:
    """Uid of the process at the other end; None where the system does not say."""
    try:
        if hasattr(socket, "SO_PEERCRED"):
            size = struct.calcsize("3i")
            _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
            return int(uid)
        if sys.platform == "darwin":  # struct xucred: version, uid, …
            data = sock.getsockopt(_DARWIN_SOL_LOCAL, _DARWIN_LOCAL_PEERCRED, 76)
            return int(struct.unpack_from("2I", data)[1])
    except (OSError, struct.error):
        return None
    return None


class PeerProtocol(H11Protocol):
    """HTTP/1.1 that notes the peer's uid as the request's client, and says what is wrong in our JSON.

    Nobody holds a connection for ever: a request's head must come whole within `patience` seconds, and what
    is written must be read within as many. Bodies have their own limit (`problems.Gate`).
    """

    patience = 30.0
    _head: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Ask the system once for each connection."""
        super().connection_made(transport)
        raw = transport.get_extra_info("socket")
        uid = peer_uid(raw) if raw is not None else None
        self.client = None if uid is None else ("uid", uid)
        transport.set_write_buffer_limits(high=0)  # hear of every byte that the other end leaves unread
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop both clocks."""
        for clock in (self._head, self._unread):
            if clock is not None:
                clock.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Start the clock with the first bytes of a head, and stop it once the head is whole."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._await_head()
        elif self._head is not None:
            self._head.cancel()
            self._head = None

    def on_response_complete(self) -> None:
        """Half of the next head may have come along with the last request."""
        super().on_response_complete()
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._await_head()

    def pause_writing(self) -> None:
        """The other end does not read; it may think about it for a while."""
        super().pause_writing()
        self._unread = self.loop.call_later(self.patience, self.transport.abort)

    def resume_writing(self) -> None:
        """The other end has read all there was."""
        if self._unread is not None:
            self._unread.cancel()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Bytes that are not HTTP, or more of them than a head may have."""
        error = sys.exception()
        if getattr(error, "error_status_hint", 400) == 431:
            self._refuse(431, "the request's head is too long", "send shorter headers")
        else:
            self._refuse(400, msg, "send HTTP/1.1")

    def _await_head(self) -> None:
        if self._head is None and not self.transport.is_closing():
            self._head = self.loop.call_later(self.patience, self._late)

    def _late(self) -> None:
        late = f"the request's head did not come whole within {self.patience:g} seconds"
        self._refuse(408, late, "send it in one go, or raise socket.patience_seconds")

    def _refuse(self, status: int, message: str, hint: str) -> None:
        """Answer a request that never came to be, and hang up."""
        if self.transport.is_closing():
            return
        error = {"type": "BadInput", "message": message, "field": "", "hint": hint}
        body = json.dumps({"error": error}).encode("ascii")
        headers = [
            (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]  # fmt: skip
        reply = h11.Response(status_code=status, headers=headers, reason=HTTPStatus(status).phrase.encode())
        for event in (reply, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def uid_of(request: Request) -> int | None:
    """The uid that `PeerProtocol` noted."""
    return request.client.port if request.client is not None and request.client.host == "uid" else None


class Server(uvicorn.Server):
    """uvicorn that leaves signals alone and says when it listens."""

    def __init__(
        self, app: Any, ready: Callable[[], None], grace_seconds: int, patience: float = PeerProtocol.patience
    ) -> None:
        protocol = type("Protocol", (PeerProtocol,), {"patience": patience})
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol,
                ws="none",
                lifespan="off",
                loop="none",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=grace_seconds,
            )
        )
        self._ready = ready

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The daemon has its own way to stop."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        self._ready()
