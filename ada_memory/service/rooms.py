"""What the API speaks to: the open parts of one daemon, each made by `daemon.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from ada_memory.circadian.night import NightRunner
from ada_memory.circadian.sunset import Sunset
from ada_memory.hippocampus.journal import Journal
from ada_memory.hippocampus.vectors import Vectors
from ada_memory.records import Draft, Receipt
from ada_memory.service.embedding import Embedding
from ada_memory.service.events import Events
from ada_memory.service.serving import Voice
from ada_memory.settings import Home, Settings
from ada_memory.sovereign.generations import Base


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
    clock: Callable[[], datetime]
    unencoded: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the journal has something for the encode loop."""

    async def keep(self, draft: Draft) -> Receipt:
        """Append to the journal; returns once it is on disk.

        Raises:
            BadInput: the journal cannot take it.
            Conflict: its key was used for other content.
        """
        receipt = await asyncio.wrap_future(self.journal.append(draft))
        if not receipt.duplicate:
            self.unencoded.set()
            self.events.publish({"event": "interaction", "id": receipt.id})
        return receipt
