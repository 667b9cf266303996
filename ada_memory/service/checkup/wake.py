"""Checks of the daemon: its socket, whether it answers, its version, its children."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import sys
from pathlib import Path
from shlex import quote

from ada_memory import __version__
from ada_memory.service.checkup.finding import Case, Finding, fail, ok, skipped, span, warn
from ada_memory.service.wire import check
from ada_memory.settings import CHECKOUT

KNOCK_SECONDS = 5.0
LOG_LINES = 3


def door(case: Case) -> Finding:
    """The socket's path can be one, and what lies there is a socket of its owner alone."""
    path = case.home.socket(case.settings.socket)
    check(path)
    folder = path.parent
    if folder.is_dir() and _mode(folder) & 0o022 and not folder.stat().st_mode & stat.S_ISVTX:
        said = f"others may put a socket of theirs into {folder} (mode {_mode(folder):04o})"
        return fail(said, f"$ chmod go-w {quote(str(folder))}")
    if not path.is_symlink() and not path.exists():
        return ok(f"{path}, not there while no daemon runs")
    if not path.is_socket():
        mend = (
            f"move it away: mv {quote(str(path))} {quote(str(path))}.old; or set socket.path to another path"
        )
        return fail(f"{path} is not a socket", mend)
    if _mode(path) & 0o077:
        said = f"others on this machine can reach {path} (mode {_mode(path):04o})"
        return fail(said, f"$ chmod 600 {quote(str(path))}")
    return ok(str(path))


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def daemon(case: Case) -> Finding:
    """It runs, answers, and is of this very version."""
    path = case.home.socket(case.settings.socket)
    if case.status is None:
        return _silent(path, case.silence)
    version, pid = str(case.status.get("version")), case.status.get("pid")
    said = f"version {version}, pid {pid}{_since(case)}"
    if version != __version__:
        return warn(f"{said}; but this is version {__version__}", "stop the daemon and start it again")
    return ok(said)


def _since(case: Case) -> str:
    from datetime import datetime

    started = str((case.status or {}).get("started_at") or "")
    if not started:
        return ""
    return f", up for {span((case.now - datetime.fromisoformat(started)).total_seconds())}"


def _silent(path: Path, silence: str) -> Finding:
    """Nobody has answered: nobody runs, somebody was killed, or somebody hangs."""
    if is_held(path.with_name(f"{path.name}.lock")):
        said = f"a daemon holds {path}, but gave no answer ({silence or 'nobody asked'})"
        return fail(
            said, f"it may still be opening: try again in a minute. Else {_killed(path)}, then `ada run`"
        )
    if answers(path):
        return fail(f"something else than Ada answers on {path}", "set socket.path to another path")
    if path.exists():
        return warn(
            f"not running; a daemon that was killed has left {path}", "$ ada run   # clears that away"
        )
    return warn("not running: nothing is kept, answered or learned", "$ ada run")


def _killed(path: Path) -> str:
    return (
        f"`kill $(lsof -t {quote(str(path))})`"
        if sys.platform == "darwin"
        else f"`fuser -k {quote(str(path))}`"
    )


def answers(path: Path) -> bool:
    """Whether anybody listens on a socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock:
        knock.settimeout(KNOCK_SECONDS)
        try:
            knock.connect(str(path))
        except OSError as error:
            return error.errno not in (errno.ECONNREFUSED, errno.ENOENT, errno.ENOTSOCK, errno.ENOTDIR, None)
    return True


def is_held(lock: Path) -> bool:
    """Whether a process holds a lock. A shared lock asks, and is let go of at once: none is taken away."""
    try:
        handle = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def voice(case: Case) -> Finding:
    """The child that answers is ready."""
    return _worker(case, "voice")


def embed(case: Case) -> Finding:
    """The child that turns text into vectors is ready."""
    return _worker(case, "embed")


def _worker(case: Case, name: str) -> Finding:
    if case.status is None:
        return skipped("it is started by the daemon")
    state = dict(case.status.get("workers") or {}).get(name, "unknown")
    fault = dict(dict(case.status.get("faults") or {}).get(name) or {})
    log = case.home.var / "log" / f"{name}.log"
    if state in ("ready", "starting"):
        deaths = int(fault.get("deaths") or 0)
        if deaths:
            said = f"{state}, but it has ended {deaths} times since the daemon started: {fault.get('last')}"
            return warn(said, f"$ tail -50 {quote(str(log))}   # says why; want of memory is a usual reason")
        return ok(state)
    if state == "idle" and not fault and not case.settings.model.warm:
        return ok("it starts when something is first asked of it (model.warm is off)")
    said = f"it is {state}: {fault.get('last') or 'it has ended or never begun'}"
    tail = " | ".join(_tail(log))
    return fail(
        f"{said} (the log ends: {tail})" if tail else said, f"$ tail -50 {quote(str(log))}   # says why"
    )


def _tail(log: Path) -> list[str]:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4000))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    return [line.strip()[:160] for line in lines if line.strip()][-LOG_LINES:]


def program(case: Case) -> Finding:
    """The daemon's own program can be found."""
    from importlib.util import find_spec

    if find_spec("circadian_daemon") is None and not (CHECKOUT / "circadian_daemon.py").is_file():
        return fail("circadian_daemon.py is not there", "install the package again: `make setup`")
    return ok(f"version {__version__}")
