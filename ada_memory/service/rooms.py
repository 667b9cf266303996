"""What the API speaks to: the open parts of one daemon, each made by `daemon.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from ada_memory.circadian.night import NightRunner
from ada_memory.circadian.sunset import Sunset
from ada_memory.errors import Unavailable
from ada_memory.hippocampus.journal import Journal
from ada_memory.hippocampus.vectors import Vectors
from ada_memory.records import Draft, Receipt
from ada_memory.service.embedding import Embedding
from ada_memory.service.encoder import Encoder
from ada_memory.service.events import Events
from ada_memory.service.serving import Voice
from ada_memory.settings import Home, Settings
from ada_memory.sovereign.generations import Base

MOST_CHATS = 64
"""Chats that may wait for the voice at a time; more would only wait longer than anybody does."""


@dataclass(frozen=True, slots=True)
class Rooms:
    """Everything that is open while the daemon is awake."""

    home: Home
    settings: Settings
    socket: Path
    base: Base
    journal: Journal
    vectors: Vectors
    embedding: Embedding
    voice: Voice
    night: NightRunner
    sunset: Sunset
    events: Events
    encoder: Encoder
    clock: Callable[[], datetime]
    chats: set[object] = field(default_factory=set)
    """One token for each chat that is being answered or waits for it."""

    async def keep(self, draft: Draft) -> Receipt:
        """Append to the journal; returns once it is on disk.

        Raises:
            BadInput: the journal cannot take it.
            Conflict: its key was used for other content.
        """
        receipt = await asyncio.wrap_future(self.journal.append(draft))
        if not receipt.duplicate:
            self.encoder.wake()
            self.events.publish({"event": "interaction", "id": receipt.id})
        return receipt

    @contextmanager
    def asking(self) -> Iterator[None]:
        """A place among those who wait for the voice; a light night gives way.

        Raises:
            Unavailable: all places are taken.
        """
        if len(self.chats) >= MOST_CHATS:
            raise Unavailable(f"{MOST_CHATS} chats wait for the model already", hint="ask again in a moment")
        token = object()
        self.chats.add(token)
        try:
            with self.night.asked():
                yield
        finally:
            self.chats.discard(token)
