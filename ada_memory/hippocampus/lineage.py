"""What came of what: between generations, dreams, memories, interactions and answers, both ways.

Names enter, plain rows leave; nothing is written. Every query starts at one name and follows an index, so
that a journal of many nights answers as fast as a young one.
"""

# ruff: noqa: S608 - the f-strings join constants of this room; values are always parameters

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ada_memory.errors import NotFound
from ada_memory.hippocampus.ledger import Settled
from ada_memory.hippocampus.rehearsal import Rehearsal
from ada_memory.hippocampus.rows import DREAM, Row, to_dream
from ada_memory.records import Dream, Override, Part

How = Literal["own", "bridge", "verifier", "rewriter"]
_TAUGHT = "dream_memories.how IN ('own', 'bridge')"
_ANSWER = (
    "SELECT answers.id, generation, interactions.id, at, answers.position, (SELECT content FROM messages "
    "WHERE messages.position = answers.position AND role IN ('user', 'tool') ORDER BY ordinal DESC LIMIT 1) "
    "FROM answers JOIN interactions ON interactions.position = answers.position "
)


class Taught(NamedTuple):
    """A memory that a generation was taught: in how many dreams that trained it, or told when to stop."""

    memory: str
    text: str
    train: int
    stop: int
    own: bool


class TaughtTo(NamedTuple):
    """A generation that was taught a memory or a dream, in so many dreams."""

    generation: str
    train: int
    stop: int


class Became(NamedTuple):
    """What one night made of one memory. `number` grows with time."""

    number: int
    night: str
    memory: str
    text: str
    outcome: Settled
    reason: str


class Dreamt(NamedTuple):
    """A dream, the night and the generation that dreamt it, and how a memory was read for it."""

    night: str
    generation: str
    how: tuple[How, ...]
    dream: Dream


class Answered(NamedTuple):
    """A reply that was kept: its id, who gave it, the interaction that holds it, and what was asked."""

    id: str
    generation: str
    interaction: str
    at: datetime
    position: int
    asked: str


class Lineage(Rehearsal):
    """The walks of `ada why`."""

    def taught(self, generation: str) -> list[Taught]:
        """The memories whose dreams a generation was taught, in the order in which they were made."""
        query = (
            "SELECT memories.id, text, sum(part = 'train'), sum(part = 'stop'), max(how = 'own') "
            "FROM generation_dreams JOIN dream_memories ON dream_memories.dream = generation_dreams.dream "
            f"AND {_TAUGHT} JOIN memories ON memories.id = memory WHERE generation = ? "
            "GROUP BY memories.number ORDER BY memories.number"
        )
        rows = self._all(query, generation)
        return [Taught(memory, text, train, stop, bool(own)) for memory, text, train, stop, own in rows]

    def taught_kinds(self, generation: str) -> dict[Part, dict[str, int]]:
        """How many dreams of each kind a generation was taught, by part of the dataset."""
        found: dict[Part, dict[str, int]] = {"train": {}, "stop": {}}
        query = (
            "SELECT part, kind, count(*) FROM generation_dreams JOIN dreams ON number = dream "
            "WHERE generation_dreams.generation = ? GROUP BY part, kind ORDER BY count(*) DESC, kind"
        )
        parts: Iterable[tuple[Part, str, int]] = self._all(query, generation)
        for part, kind, count in parts:
            found[part][kind] = count
        return found

    def taught_dreams(self, generation: str, limit: int) -> list[Dreamt]:
        """Some of the dreams that trained a generation, one of each memory before the second of any."""
        query = (
            f"SELECT night, generation, 'own', {DREAM} FROM (SELECT dream AS picked, row_number() OVER "
            "(PARTITION BY (SELECT memory FROM dream_memories WHERE dream = dreams.number AND ordinal = 0) "
            "ORDER BY score DESC, number) AS turn FROM generation_dreams JOIN dreams ON number = dream "
            "WHERE generation_dreams.generation = ? AND part = 'train' ORDER BY turn, number LIMIT ?) "
            "JOIN dreams ON number = picked ORDER BY turn, number"
        )
        return [_dreamt(row) for row in self._all(query, generation, limit)]

    def taught_to(self, memory: str) -> list[TaughtTo]:
        """The generations that were taught dreams of a memory, oldest first."""
        query = (
            "SELECT generation, sum(part = 'train'), sum(part = 'stop') FROM dream_memories "
            "JOIN generation_dreams ON generation_dreams.dream = dream_memories.dream "
            f"WHERE memory = ? AND {_TAUGHT} GROUP BY generation ORDER BY generation"
        )
        return [TaughtTo(*row) for row in self._all(query, memory)]

    def became(self, *, night: str | None = None, memories: Iterable[str] | None = None) -> list[Became]:
        """What nights made of memories, oldest first: of one night, of some memories, or of both."""
        wanted = "night = ?" if memories is None else "memory IN (SELECT value FROM json_each(?))"
        values: list[object] = [night if memories is None else json.dumps(list(memories))]
        if memories is not None and night is not None:
            wanted += " AND night = ?"
            values.append(night)
        query = (
            "SELECT settlements.number, night, memory, text, outcome, reason FROM settlements "
            f"JOIN memories ON memories.id = memory WHERE {wanted} ORDER BY settlements.number"
        )
        return [Became(*row) for row in self._all(query, *values)]

    def overrides(self, memory: str) -> list[tuple[str, Override]]:
        """Claims of this memory that a newer one overrides, and claims that it overrides; with the night."""
        query = "SELECT night, memory, claim, newer FROM overrides WHERE memory = ? OR newer = ?"
        return [(night, Override(*rest)) for night, *rest in self._all(query, memory, memory)]

    def dream_counts(self, memory: str) -> dict[How, int]:
        """How many dreams read a memory, by how they did."""
        query = "SELECT how, count(*) FROM dream_memories WHERE memory = ? GROUP BY how"
        return dict(self._all(query, memory))

    def dreams_of(self, memory: str, limit: int) -> tuple[int, list[Dreamt]]:
        """How many dreams read a memory, and the latest of them, newest first."""
        [(total,)] = self._all("SELECT count(DISTINCT dream) FROM dream_memories WHERE memory = ?", memory)
        query = (
            f"SELECT night, generation, hows, {DREAM} FROM (SELECT dream, group_concat(how) AS hows FROM "
            "dream_memories WHERE memory = ? GROUP BY dream ORDER BY dream DESC LIMIT ?) "
            "JOIN dreams ON dreams.number = dream ORDER BY dreams.number DESC"
        )
        return total, [_dreamt(row) for row in self._all(query, memory, limit)]

    def dreamt_by(self, night: str) -> list[tuple[str, str, int, int]]:
        """The memories that a night dreamt of: id, text, dreams of its own, and how many were accepted."""
        query = (
            "SELECT memories.id, text, count(*), sum(accepted) FROM dreams JOIN dream_memories "
            "ON dream = dreams.number AND how = 'own' JOIN memories ON memories.id = memory "
            "WHERE night = ? GROUP BY memories.number ORDER BY memories.number"
        )
        return self._all(query, night)

    def dream(self, night: str, name: str) -> tuple[Dreamt, list[tuple[str, Part]]]:
        """One dream, and the generations that were taught it with the part that it was in.

        Raises:
            NotFound: that night dreamt no such dream.
        """
        query = f"SELECT night, generation, 'own', {DREAM}, number FROM dreams WHERE night = ? AND id = ?"
        rows = self._all(query, night, name)
        if not rows:
            raise NotFound(f"night {night} has no dream {name!r}")
        to = "SELECT generation, part FROM generation_dreams WHERE dream = ? ORDER BY generation"
        return _dreamt(rows[0][:-1]), self._all(to, rows[0][-1])

    def sources(self, memories: Iterable[str]) -> dict[str, list[str]]:
        """The ids of the interactions that memories were made of, by memory."""
        query = (
            "SELECT memory, id FROM memory_interactions JOIN interactions USING (position) "
            "WHERE memory IN (SELECT value FROM json_each(?)) ORDER BY position"
        )
        found: dict[str, list[str]] = {}
        for memory, interaction in self._all(query, json.dumps(list(memories))):
            found.setdefault(memory, []).append(interaction)
        return found

    def made_of(self, position: int) -> list[str]:
        """The ids of the memories that an interaction was made into."""
        query = "SELECT memory FROM memory_interactions WHERE position = ? ORDER BY memory"
        return [memory for (memory,) in self._all(query, position)]

    def answers(
        self, *, generation: str | None = None, memory: str | None = None, limit: int
    ) -> tuple[int, list[Answered]]:
        """How many kept answers a generation gave, or were given from a memory; and the latest of them."""
        if memory is None:
            where, value = "FROM answers WHERE generation = ?", generation
        else:
            where, value = "FROM answer_memories WHERE memory = ?", memory
        [(total,)] = self._all(f"SELECT count(*) {where}", value)
        latest = f"SELECT position {where} ORDER BY position DESC LIMIT ?"
        query = f"{_ANSWER} WHERE answers.position IN ({latest}) ORDER BY answers.position DESC"
        return total, [_answered(row) for row in self._all(query, value, limit)]

    def answer_at(self, position: int) -> Answered | None:
        """The answer that an interaction holds, if the model gave one here."""
        rows = self._all(f"{_ANSWER} WHERE answers.position = ?", position)
        return _answered(rows[0]) if rows else None

    def starting_with(self, table: Literal["interactions", "answers"], start: str) -> list[tuple[str, int]]:
        """Id and position of the first two whose id begins so: enough to tell whether it is one."""
        query = f"SELECT id, position FROM {table} WHERE id >= ? AND id < ? ORDER BY id LIMIT 2"
        return self._all(query, start, start + "\U0010ffff")

    def vector_of(self, memory: str) -> tuple[str, NDArray[np.float32]] | None:
        """The latest vector (d,) of a memory, and the embedder that made it."""
        query = "SELECT embedder, vector FROM vectors WHERE memory = ? ORDER BY number DESC LIMIT 1"
        rows = self._all(query, memory)
        return (rows[0][0], np.frombuffer(rows[0][1], dtype="<f4")) if rows else None

    def _all(self, query: str, *values: object) -> list[Any]:
        with self._read() as db:
            return db.execute(query, values).fetchall()


def _dreamt(row: Row) -> Dreamt:
    return Dreamt(row[0], row[1], tuple(row[2].split(",")), to_dream(row[3:]))


def _answered(row: Row) -> Answered:
    name, generation, interaction, at, position, asked = row
    return Answered(name, generation, interaction, datetime.fromisoformat(at), position, asked or "")
