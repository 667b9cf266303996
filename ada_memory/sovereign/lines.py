"""A mind that changes its base. The owner's choice enters; on waking, another line of generations serves.

A generation is an adapter over one base and fits no other. So another base begins a line of its own at
gen-0000, and what only the old line has learned is learned anew by the coming nights: the journal is the
truth. The old line is kept, and where it was left is written down: choosing its base again goes back to it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime
from pathlib import Path
from typing import Protocol

from ada_memory.errors import AdaError
from ada_memory.settings import Home
from ada_memory.sovereign import manifests
from ada_memory.sovereign.bases import Base
from ada_memory.sovereign.disk import replace_text, to_json
from ada_memory.sovereign.manifests import ROOT


class Activations(Protocol):
    """What a journal keeps of who served when."""

    def record_activation(self, generation: str, at: datetime, reason: str) -> Future[None]:
        """Keep that a generation began to serve; resolves once it is durable."""
        ...


def choose(home: Home, now: str, wanted: str) -> str:
    """Write down that the base with the hash `wanted` is to serve; returns the generation that then will.

    `now` is the base of today. Nothing changes until the daemon wakes (`change`). The base that is chosen
    already takes a choice back that was not carried out.
    """
    notes = _read(home)
    before = notes["wanted"].get("from", now)
    notes["wanted"] = {} if wanted == before else {"from": before, "to": wanted}
    _write(home, notes)
    return _active(home) if wanted == before else notes["left"].get(wanted, ROOT)


def change(home: Home, journal: Activations, base: Base, clock: Callable[[], datetime]) -> str | None:
    """Carry out a choice of this base: point at where its line was left. Returns what serves, or None.

    For the daemon alone, before it opens its voice. A choice of another base than the one that was prepared
    (the settings were changed by hand since) is left alone.
    """
    notes = _read(home)
    wanted = notes["wanted"]
    if wanted.get("to") != base.hash:
        return None
    target = notes["left"].get(base.hash, ROOT)
    # Kept before the pointer moves: a crash in between only carries the same choice out again.
    wanted.setdefault("at", _active(home))
    _write(home, notes)
    replace_text(home.mind / "active", target + "\n")
    journal.record_activation(target, clock(), f"the base is now {base.name}").result()
    notes["left"][wanted["from"]] = wanted["at"]
    notes["wanted"] = {}
    _write(home, notes)
    return target


def is_pending(home: Home) -> str:
    """The hash of the base that was chosen and is not yet in place; empty if there is none."""
    return _read(home)["wanted"].get("to", "")


def _active(home: Home) -> str:
    try:
        return manifests.active(home)
    except AdaError:
        return ROOT


def _notes(home: Home) -> Path:
    return home.mind / "lines.json"


def _read(home: Home) -> dict[str, dict[str, str]]:
    try:
        body = json.loads(_notes(home).read_text("utf-8"))
        return {name: {str(k): str(v) for k, v in body[name].items()} for name in ("wanted", "left")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {"wanted": {}, "left": {}}


def _write(home: Home, notes: dict[str, dict[str, str]]) -> None:
    replace_text(_notes(home), to_json(notes, indent=2) + "\n")
