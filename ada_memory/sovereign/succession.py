"""Who serves. A generation's id enters; the pointer names it and the voice speaks it, or nothing has changed.

The order is what makes it safe: the new voice must speak before the pointer moves, and the pointer is the
last thing that decides. A crash in between leaves a pointer whose generation is whole, whichever it names.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Protocol

from filelock import FileLock, Timeout

from ada_memory.errors import BadModel, Conflict
from ada_memory.settings import Home
from ada_memory.sovereign import generations
from ada_memory.sovereign.bases import Base
from ada_memory.sovereign.generations import ROOT, Serving

Swap = Callable[[Serving], Awaitable[None]]
Clock = Callable[[], datetime]
_WAIT_SECONDS = 120.0
_POLL_SECONDS = 0.05
_UNREADABLE = "(a pointer that cannot be read)"


class Activations(Protocol):
    """What a journal keeps of who served when; rooms do not know one another, so this is its shape."""

    def record_activation(self, generation: str, at: datetime, reason: str) -> Future[None]:
        """Keep that a generation began to serve; resolves once it is durable."""
        ...

    def activations(self, limit: int = 100) -> Sequence[tuple[str, datetime, str]]:
        """Generation, time and reason, newest first."""
        ...


async def activate(  # noqa: PLR0913  the daemon's wiring, and what is asked of it
    home: Home, journal: Activations, base: Base, generation_id: str, swap: Swap, reason: str, clock: Clock,
    *, after: str | None = None,
) -> None:
    """Let a generation serve, or leave everything as it was.

    With `after`, it succeeds that generation alone: a rollback that came first is not undone.

    `swap` starts the new voice, probes it and lets it take over; it raises if the probe fails. A generation
    that is active already is not swapped again; only a missing journal row is added.

    Raises:
        NotFound, BadModel: the generation cannot be read.
        Conflict: another generation than `after` serves, or another change did not end in time.
        AdaError: whatever `swap` raised.
    """
    async with _alone(home):
        before = await asyncio.to_thread(_active_if_readable, home)
        if before == generation_id:
            await _record_if_missing(journal, generation_id, reason, clock)
        elif after not in (None, before):
            raise Conflict(f"{before} was put in place meanwhile", hint=f"it should be {after}")
        else:
            await _succeed(home, journal, base, before, generation_id, swap, reason, clock)
        await asyncio.to_thread(generations.drop_merged, home, generation_id)


async def rollback(
    home: Home, journal: Activations, base: Base, swap: Swap, clock: Clock, to: str | None = None
) -> tuple[str, str]:
    """Let the parent (or the generation named) serve again; returns the new and the previous id.

    Raises:
        Conflict: the base serves already and has no parent, or the generation named serves already.
        NotFound, BadModel: the generation cannot be read.
        AdaError: whatever `swap` raised.
    """
    before = await asyncio.to_thread(generations.active, home)
    target = to if to is not None else await asyncio.to_thread(_parent, home, before)
    if target == before:
        raise Conflict(f"{target} serves already", hint="`ada nights` lists the others")
    await activate(home, journal, base, target, swap, f"rollback from {before}", clock)
    return target, before


async def reset(home: Home, journal: Activations, base: Base, swap: Swap, clock: Clock) -> tuple[str, str]:
    """Back to the untouched base; memories and generations stay. Returns the new and the previous id."""
    before = _active_if_readable(home)
    if before != ROOT:
        await activate(home, journal, base, ROOT, swap, f"reset from {before}", clock)
    return ROOT, before


async def _succeed(
    home: Home, journal: Activations, base: Base, before: str, after: str, swap: Swap, reason: str,
    clock: Clock,
) -> None:
    serving = await asyncio.to_thread(generations.serving, home, base, after)
    await swap(serving)
    settled = False
    try:
        await asyncio.to_thread(generations.activate_pointer, home, after)
        await asyncio.wrap_future(journal.record_activation(after, clock(), reason))
        settled = True
    finally:
        if not settled:
            before = ROOT if before == _UNREADABLE else before
            generations.activate_pointer(home, before)
            await swap(await asyncio.to_thread(generations.serving, home, base, before))


async def _record_if_missing(journal: Activations, generation: str, reason: str, clock: Clock) -> None:
    rows = await asyncio.to_thread(journal.activations, 1)
    if not rows or rows[0][0] != generation:
        await asyncio.wrap_future(journal.record_activation(generation, clock(), reason))


def _parent(home: Home, generation: str) -> str:
    """The parent by the manifest alone: the way back must be open when the adapter is damaged."""
    if generation == ROOT:
        raise Conflict(f"{ROOT} is the base and has no parent", hint="name one: `ada rollback gen-0001`")
    return str(generations.manifest(home, generation)["parent"])


def _active_if_readable(home: Home) -> str:
    try:
        return generations.active(home)
    except BadModel:
        return _UNREADABLE


@asynccontextmanager
async def _alone(home: Home) -> AsyncIterator[None]:
    """One change of generation at a time, across tasks and processes; waiting does not hold up the loop."""
    home.mind.mkdir(parents=True, exist_ok=True)
    lock = FileLock(home.mind / "active.lock", thread_local=False)
    deadline = asyncio.get_running_loop().time() + _WAIT_SECONDS
    while True:
        try:
            lock.acquire(blocking=False)
            break
        except Timeout:
            if asyncio.get_running_loop().time() > deadline:
                hint = "try again in a minute"
                raise Conflict("another change of generation is under way", hint=hint) from None
            await asyncio.sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        lock.release()
