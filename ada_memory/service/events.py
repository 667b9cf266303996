"""What happens, told to whoever watches: events go in, each subscriber's stream comes out.

A subscriber that does not keep up loses its oldest events; the daemon never waits. Nothing goes to disk.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from collections.abc import AsyncIterator, Mapping

HEARTBEAT_SECONDS = 15.0
LANDMARKS = frozenset({"night", "stage", "active"})

Numbered = tuple[int, dict[str, object]]


class Events:
    """Broadcast with a short memory; belongs to one event loop, may be told from any thread."""

    def __init__(self, replay: int = 200, backlog: int = 1000) -> None:
        self._recent: deque[Numbered] = deque(maxlen=replay)
        self._landmarks: deque[Numbered] = deque(maxlen=replay)
        self._backlog = backlog
        self._queues: set[asyncio.Queue[Numbered | None]] = set()
        self._last = 0
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    def publish(self, event: Mapping[str, object]) -> None:
        """Tell every subscriber; never waits."""
        if threading.get_ident() == self._thread:
            self._publish(dict(event))
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._publish, dict(event))

    def _publish(self, event: dict[str, object]) -> None:
        self._last += 1
        item = (self._last, event)
        if event.get("event") == "night" and event.get("state") == "opened":
            self._landmarks.clear()  # a late viewer wants this night from its start, not the one before
        if event.get("event") in LANDMARKS:
            self._landmarks.append(item)
        self._recent.append(item)
        for queue in self._queues:
            _push(queue, item)

    def missed(self, after: int = 0) -> list[Numbered]:
        """The recent events and the landmarks of the night, in order, that came after number `after`."""
        known = {number: event for number, event in (*self._landmarks, *self._recent)}
        # a number from the future was given out by a daemon that is gone: its count says nothing here
        return [(n, known[n]) for n in sorted(known) if n > after or after > self._last]

    async def stream(self, after: int = 0, heartbeat: float = HEARTBEAT_SECONDS) -> AsyncIterator[str]:
        """Server-sent events as text: what was missed, then all that comes, until `close`."""
        queue: asyncio.Queue[Numbered | None] = asyncio.Queue(self._backlog)
        for item in self.missed(after):
            _push(queue, item)
        if self._closed:
            _push(queue, None)
        self._queues.add(queue)
        try:
            yield ": ada\n\n"
            while True:
                try:
                    item_or_end = await asyncio.wait_for(queue.get(), heartbeat)
                except TimeoutError:
                    yield ": still here\n\n"
                    continue
                if item_or_end is None:
                    return
                yield lines(*item_or_end)
        finally:
            self._queues.discard(queue)

    def close(self) -> None:
        """End every stream, and each one that is opened later."""
        self._closed = True
        for queue in self._queues:
            _push(queue, None)


def lines(number: int, event: Mapping[str, object]) -> str:
    """One event in the text/event-stream format: id, event and data, then an empty line."""
    data = json.dumps(event, ensure_ascii=True, default=str)
    return f"id: {number}\nevent: {event.get('event', 'message')}\ndata: {data}\n\n"


def _push(queue: asyncio.Queue[Numbered | None], item: Numbered | None) -> None:
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(item)
