"""When a night stands still. Orders of its owner and chats enter; `act(on)` and the pauses leave.

Two things hold a night up: its owner's word (`ada pause`), until it is taken back, and in a light night
somebody who asks, until nobody has for a while. `orders.json` in the night's folder keeps the owner's word
and every pause, so that a daemon that is killed comes back as it was told to be.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from ada_memory.sovereign.disk import replace_text, to_json

ORDERS = "orders.json"
Why = Literal["asked", "owner"]


@dataclass(slots=True)
class Pause:
    """One pause: from, to (None while it lasts) and on whose account."""

    since: datetime
    until: datetime | None
    why: Why


@dataclass(slots=True)
class Orders:
    """What a night was told, and when it stood still, oldest first."""

    paused: bool = False
    """Whether its owner holds it."""
    woken: bool = False
    """Whether its owner has ended it."""
    pauses: list[Pause] = field(default_factory=list)


def read_orders(folder: Path) -> Orders:
    """The orders of a night's folder; none if there are none, or they cannot be read."""
    try:
        body = json.loads((folder / ORDERS).read_text("utf-8"))
        pauses = [
            Pause(datetime.fromisoformat(since), datetime.fromisoformat(until) if until else None, why)
            for since, until, why in body["pauses"]
        ]
        return Orders(bool(body["paused"]), bool(body["woken"]), pauses)
    except (OSError, ValueError, KeyError, TypeError):
        return Orders()


def write_orders(folder: Path, orders: Orders) -> None:
    """Keep them, in one step.

    Raises:
        OSError: they cannot be written.
    """
    rows = [(p.since.isoformat(), p.until.isoformat() if p.until else None, p.why) for p in orders.pauses]
    body = {"paused": orders.paused, "woken": orders.woken, "pauses": rows}
    replace_text(folder / ORDERS, to_json(body, indent=2) + "\n")


def seconds_paused(pauses: Sequence[Pause], since: datetime, until: datetime) -> float:
    """How many seconds between two moments a night stood still; what overlaps counts once."""
    total, reached = 0.0, since
    for pause in sorted(pauses, key=lambda pause: pause.since):
        end = min(pause.until or until, until)
        begin = max(pause.since, reached)
        if end > begin:
            total += (end - begin).total_seconds()
            reached = end
    return total


class Brake:
    """Holds one night after another up. `act(on)` is called whenever the night stops or goes on.

    Belongs to one event loop. Chats count also while no night is on: the next may be a light one.
    """

    def __init__(
        self, quiet_seconds: float, clock: Callable[[], datetime], act: Callable[[bool], None]
    ) -> None:
        self._quiet_seconds, self._clock, self._act = quiet_seconds, clock, act
        self.orders = Orders()
        self._light = False
        self._chats = 0
        self._quiet: asyncio.TimerHandle | None = None
        self._on = self._closed = False
        self._free = asyncio.Event()
        self._free.set()

    @property
    def why(self) -> Why | None:
        """On whose account the night stands still; None if it does not."""
        if self.orders.woken:
            return None
        if self.orders.paused:
            return "owner"
        return "asked" if self._light and (self._chats or self._quiet is not None) else None

    @property
    def since(self) -> datetime | None:
        """Since when it stands still."""
        return self.orders.pauses[-1].since if self._on and self.orders.pauses else None

    def begin(self, orders: Orders, *, light: bool) -> None:
        """A night begins, or goes on in another daemon; a pause that died with the last has no known end."""
        orders.pauses = [pause for pause in orders.pauses if pause.until or pause.why == "owner"]
        self.orders, self._light = orders, light
        self._settle()

    def end(self) -> None:
        """The night is over: nothing is held up any more."""
        self.orders.paused = self._light = False
        self._settle()
        self.orders = Orders()

    def close(self) -> None:
        """The daemon is closing: nobody waits any longer, and the orders stay as they are."""
        self._closed = True
        self._hush()
        self._free.set()

    def pause(self) -> None:
        """Its owner holds the night."""
        self.orders.paused = True
        self._settle()

    def go_on(self) -> None:
        """Its owner lets it go on, also if somebody has just asked."""
        self.orders.paused = False
        self._hush()
        self._settle()

    def wake(self) -> None:
        """Its owner has ended the night."""
        self.orders.woken = True
        self._settle()

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Somebody asks: a light night gives way from now until a while after the answer."""
        self._chats += 1
        self._settle()
        try:
            yield
        finally:
            self._chats -= 1
            self._hush()
            if not self._closed:
                self._quiet = asyncio.get_running_loop().call_later(self._quiet_seconds, self._is_quiet)
            self._settle()

    async def free(self) -> None:
        """Return once nothing holds the night up."""
        await self._free.wait()

    def _is_quiet(self) -> None:
        self._quiet = None
        self._settle()

    def _hush(self) -> None:
        if self._quiet is not None:
            self._quiet.cancel()
            self._quiet = None

    def _settle(self) -> None:
        """Stop the night or let it go on, as it now has to be, and note it."""
        if self._closed:
            return
        why, pauses = self.why, self.orders.pauses
        lasting = pauses[-1] if pauses and pauses[-1].until is None else None
        if lasting is not None and lasting.why != why:
            lasting.until = self._clock()
        if why is not None and (lasting is None or lasting.until is not None):
            pauses.append(Pause(self._clock(), None, why))
        if (why is not None) != self._on:
            self._on = why is not None
            (self._free.clear if self._on else self._free.set)()
            self._act(self._on)
