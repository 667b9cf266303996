"""What a check says, and what it may look at. Nothing here looks at anything."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from ada_memory.errors import AdaError
from ada_memory.settings import Home, Settings

State = Literal["ok", "warn", "fail", "skipped"]
RESTORE = "restore a backup: docs/operations.md"
ORDER: tuple[State, ...] = ("skipped", "ok", "warn", "fail")


@dataclass(frozen=True, slots=True)
class Finding:
    """How one thing is. `mend` says what to do, a line each; what follows `$ ` is to be typed."""

    state: State
    found: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """What every check may look at.

    `status` is what a daemon answered to `GET /v1/status`, None if none did; `silence` then says why.
    `bad` is the error of settings that cannot be read: `settings` are the defaults then.
    """

    home: Home
    settings: Settings
    now: datetime
    env: Mapping[str, str]
    status: Mapping[str, Any] | None = None
    silence: str = ""
    bad: AdaError | None = None
    deep: bool = False


@dataclass(frozen=True, slots=True)
class Mind:
    """A journal that can be read, and what belongs to it. `indexed` counts the rows of the index.

    `embedder` is the hash that vectors are made under now, empty if that cannot be told.
    """

    db: sqlite3.Connection
    path: Path
    home: Home
    settings: Settings
    embedder: str
    indexed: Callable[[], int | None]
    now: datetime
    deep: bool = False
    awake: bool = False
    """Whether a daemon is at work on it."""


def ok(found: str) -> Finding:
    """Nothing to do."""
    return Finding("ok", found)


def warn(found: str, mend: str) -> Finding:
    """It goes on, but not as well as it should, or not for long."""
    return Finding("warn", found, mend)


def fail(found: str, mend: str) -> Finding:
    """Something does not work, or something private is open."""
    return Finding("fail", found, mend)


def skipped(found: str, mend: str = "") -> Finding:
    """It was not looked at, and why."""
    return Finding("skipped", found, mend)


def worst(findings: Iterable[Finding], well: str) -> Finding:
    """Several findings as one: the worst state, all that was found, every mend; `well` if there are none."""
    rows = list(findings)
    if not rows:
        return ok(well)
    mends = dict.fromkeys(row.mend for row in rows if row.mend)
    state = max((row.state for row in rows), key=ORDER.index)
    return Finding(state, "; ".join(row.found for row in rows), "\n".join(mends))


def guarded(check: Callable[[], Finding]) -> Finding:
    """The finding of a check; one that raises has found something too."""
    try:
        return check()
    except AdaError as error:
        return fail(error.message, error.hint or "docs/operations.md says more of each kind of error")
    except sqlite3.Error as error:
        return fail(f"SQLite cannot read it: {error}", RESTORE)
    except Exception as error:  # noqa: BLE001  the doctor: one check that stumbles must not hide the others
        said = " ".join(str(error).split())
        return fail(
            f"the check itself failed: {type(error).__name__}: {said}", "this is a fault of Ada: report it"
        )


def size(count: float) -> str:
    """A number of bytes in the unit that people say: 1.5 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def many(count: int, noun: str) -> str:
    """`1 night`, `2 nights`, `3 memories`."""
    return f"{count} {noun if count == 1 else noun[:-1] + 'ies' if noun.endswith('y') else noun + 's'}"


def span(seconds: float) -> str:
    """A stretch of time in the unit that people say: 3 min, 5 h, 2 days."""
    for limit, unit, name in ((90, 1, "s"), (7200, 60, "min"), (129_600, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86_400:.0f} days"
