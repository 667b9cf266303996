"""What rehearsal lives on: how well learned memories were known, and the dreams that taught them.

Reviews enter, one for each memory that a night asked for; reviews and samples leave. When a memory is due
again is not stored: it follows from its reviews (circadian/spacing.py).
"""

# ruff: noqa: S608 - the f-strings join constants of this room; values are always parameters

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from concurrent.futures import Future
from typing import NamedTuple

from ada_memory.hippocampus.ledger import Ledger, Settled
from ada_memory.hippocampus.rows import DREAM, to_dream
from ada_memory.records import Dream, Part


class Review(NamedTuple):
    """How many questions about a memory a night asked of its parent, and how many were answered right."""

    night: str
    memory: str
    asked: int
    right: int


class Sampled(NamedTuple):
    """A dream that taught its own memory: the night that dreamt it, and the part of the dataset it was in."""

    memory: str
    night: str
    part: Part
    dream: Dream


class Rehearsal(Ledger):
    """Reviews and the samples to rehearse. Writes return Futures that resolve once the rows are durable."""

    def record_reviews(self, reviews: Iterable[Review]) -> Future[None]:
        """Keep what a night measured; a memory that the night has reviewed already stays as it was."""
        rows = [tuple(review) for review in reviews]

        def write(db: sqlite3.Connection) -> None:
            db.executemany("INSERT INTO reviews VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", rows)

        return self._write(write)

    def reviews(self) -> list[Review]:
        """All reviews, in the order of the nights that made them."""
        query = "SELECT night, memory, asked, right FROM reviews JOIN nights ON id = night ORDER BY number"
        with self._read() as db:
            return [Review(*row) for row in db.execute(query)]

    def settled(self) -> list[tuple[str, str, Settled]]:
        """Everything that nights made of memories, oldest first: memory, night, outcome."""
        with self._read() as db:
            return list(db.execute("SELECT memory, night, outcome FROM settlements ORDER BY number"))

    def samples(self, memories: Iterable[str], generations: Iterable[str]) -> list[Sampled]:
        """The dreams of memories (their own, no bridges) that some generations were taught, oldest first.

        A dream that ever told when to stop is never called a training sample: it judges.
        """
        # min(part): "stop" comes before "train"
        query = (
            f"SELECT memory, night, part, {DREAM} FROM (SELECT dream_memories.memory AS memory, "
            "dream_memories.dream AS picked, min(part) AS part FROM dream_memories "
            "JOIN generation_dreams ON generation_dreams.dream = dream_memories.dream WHERE how = 'own' "
            "AND memory IN (SELECT value FROM json_each(?)) AND generation_dreams.generation IN "
            "(SELECT value FROM json_each(?)) GROUP BY dream_memories.dream HAVING (SELECT count(*) FROM "
            "dream_memories AS joined WHERE joined.dream = picked AND how = 'bridge') = 0) "
            "JOIN dreams ON number = picked ORDER BY number"
        )
        with self._read() as db:
            rows = db.execute(query, (json.dumps(list(memories)), json.dumps(list(generations)))).fetchall()
        return [Sampled(memory, night, part, to_dream(rest)) for memory, night, part, *rest in rows]
