"""The journal's second half: nights, their stages and dreams, what became of memories, generations.

Records of the house enter and leave. Every write may be repeated: what is there already stays as it was,
so that a night that died between its files and its rows can simply go on.
"""

# ruff: noqa: S608 - the f-strings join constants of this room; values are always parameters

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from datetime import datetime
from typing import Literal, NamedTuple

from ada_memory.errors import Conflict, NotFound
from ada_memory.hippocampus.rows import (
    DREAM,
    GENERATION,
    NIGHT,
    STAGE,
    Row,
    dump,
    stamp,
    to_dream,
    to_generation,
    to_night,
    to_stage,
)
from ada_memory.hippocampus.store import Store
from ada_memory.records import Dream, Generation, NightRecord, Override, StageRecord

PARTS = "var/minds may hold parts of two minds: `ada doctor` looks into it"
LISTED = {"night": "`ada nights` lists them", "memory": "`ada memories` lists the newest"}

Settled = Literal["learned", "skipped", "superseded", "set_aside"]


class Activation(NamedTuple):
    """One moment at which a generation began to serve."""

    generation: str
    at: datetime
    reason: str


class Settlement(NamedTuple):
    """What the latest night that dealt with a memory made of it."""

    night: str
    outcome: Settled
    reason: str


class Ledger(Store):
    """Nights and generations. Writes return Futures that resolve once the rows are durable."""

    def open_night(self, night: NightRecord) -> Future[NightRecord]:
        """Open a night; the one that is there already if its id is taken."""
        row = (
            night.id, night.kind, stamp(night.opened_at), night.upto, night.parent, night.seed, night.depth
        )

        def write(db: sqlite3.Connection) -> NightRecord:
            query = f"INSERT INTO nights ({NIGHT}) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
            db.execute(query, row)
            return to_night(_one(db, f"SELECT {NIGHT} FROM nights WHERE id = ?", night.id, "night"))

        return self._write(write)

    def night(self, name: str) -> NightRecord:
        """Raises NotFound if there is no such night."""
        with self._read() as db:
            return to_night(_one(db, f"SELECT {NIGHT} FROM nights WHERE id = ?", name, "night"))

    def nights(self, limit: int = 100) -> list[NightRecord]:
        """Nights, newest first."""
        with self._read() as db:
            rows = db.execute(f"SELECT {NIGHT} FROM nights ORDER BY number DESC LIMIT ?", (limit,))
            return [to_night(row) for row in rows]

    def unfinished_night(self) -> NightRecord | None:
        """The oldest night that has no report yet."""
        with self._read() as db:
            row = db.execute(
                f"SELECT {NIGHT} FROM nights WHERE NOT EXISTS (SELECT 1 FROM stages WHERE night = nights.id "
                "AND name = 'report') ORDER BY number LIMIT 1"
            ).fetchone()
        return to_night(row) if row else None

    def last_slept(self) -> datetime | None:
        """When the night that was finished last ended, whatever its verdict: by its row, not by the clock."""
        query = "SELECT finished_at FROM stages WHERE name = 'report' ORDER BY number DESC LIMIT 1"
        with self._read() as db:
            row = db.execute(query).fetchone()
        return datetime.fromisoformat(row[0]) if row else None

    def record_stage(self, stage: StageRecord) -> Future[None]:
        """Keep a finished stage; fails with NotFound if its night was never opened."""
        row = (
            stage.night, stage.name, stage.outcome, stage.reason, stamp(stage.started_at),
            stamp(stage.finished_at), dump(stage.figures),
        )

        def write(db: sqlite3.Connection) -> None:
            _require(db, "nights", stage.night)
            query = f"INSERT INTO stages ({STAGE}) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
            db.execute(query, row)

        return self._write(write)

    def stages(self, night: str) -> list[StageRecord]:
        """The stages of a night that are finished, in the order in which they finished."""
        with self._read() as db:
            rows = db.execute(f"SELECT {STAGE} FROM stages WHERE night = ? ORDER BY number", (night,))
            return [to_stage(row) for row in rows]

    def record_dreams(
        self, night: str, generation: str, dreams: Iterable[Dream], overrides: Iterable[Override] = ()
    ) -> Future[None]:
        """Keep what a night dreamt, with all memories that were read for it; ids are the night's own.

        `generation` is the one that dreamt and verified them. Fails with NotFound for an unknown night or
        memory.
        """
        kept = list(dreams)
        corrected = [(night, row.memory, row.claim, row.newer) for row in overrides]

        def write(db: sqlite3.Connection) -> None:
            _require(db, "nights", night)
            for dream in kept:
                _insert_dream(db, night, generation, dream)
            for row in corrected:
                _require(db, "memories", row[1])
                _require(db, "memories", row[3])
            db.executemany("INSERT INTO overrides VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", corrected)

        return self._write(write)

    def dreams(self, night: str) -> list[Dream]:
        """What a night dreamt, in the order recorded."""
        with self._read() as db:
            rows = db.execute(f"SELECT {DREAM} FROM dreams WHERE night = ? ORDER BY number", (night,))
            return [to_dream(row) for row in rows]

    def settle(self, night: str, outcomes: Mapping[str, tuple[Settled, str]]) -> Future[None]:
        """Keep what an activated night made of its memories: id to (outcome, reason)."""
        kept = [(night, memory, outcome, reason) for memory, (outcome, reason) in outcomes.items()]

        def write(db: sqlite3.Connection) -> None:
            _require(db, "nights", night)
            for row in kept:
                _require(db, "memories", row[1])
            db.executemany(
                "INSERT INTO settlements (night, memory, outcome, reason) VALUES (?, ?, ?, ?) "
                "ON CONFLICT DO NOTHING", kept,
            )

        return self._write(write)

    def settlements(self) -> dict[str, Settlement]:
        """What became of each memory that a night has dealt with, by memory id."""
        with self._read() as db:
            rows = db.execute("SELECT memory, night, outcome, reason FROM settlements ORDER BY number")
            return {memory: Settlement(*rest) for memory, *rest in rows}

    def times_set_aside(self) -> dict[str, int]:
        """How many nights could make nothing of a memory, by memory id."""
        query = "SELECT memory, count(*) FROM settlements WHERE outcome = 'set_aside' GROUP BY memory"
        with self._read() as db:
            return {memory: int(times) for memory, times in db.execute(query)}

    def record_generation(
        self, generation: Generation, dream_ids: Iterable[str], stop_ids: Iterable[str] = ()
    ) -> Future[None]:
        """Keep a generation, the dreams that it was trained on, and those that told when to stop.

        A dream of its own night goes by its id, one of another night by `<night>/<id>`.
        Fails with NotFound for an unknown night or dream, with Conflict if the id has another adapter.
        """
        name = generation.id
        dreams = [(dream, "train") for dream in dream_ids] + [(dream, "stop") for dream in stop_ids]
        row = (
            name, generation.parent, generation.night, generation.adapter,
            stamp(generation.created_at), generation.verdict,
        )

        def write(db: sqlite3.Connection) -> None:
            there = db.execute("SELECT adapter FROM generations WHERE id = ?", (name,)).fetchone()
            if there and there[0] != generation.adapter:
                raise Conflict(
                    f"generation {name} is in the journal with another adapter",
                    hint=PARTS,
                )
            if generation.night is not None:
                _require(db, "nights", generation.night)
            query = f"INSERT INTO generations ({GENERATION}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
            db.execute(query, row)
            rows = [(name, _dream_number(db, dream, generation.night), part) for dream, part in dreams]
            db.executemany("INSERT INTO generation_dreams VALUES (?, ?, ?) ON CONFLICT DO NOTHING", rows)

        return self._write(write)

    def generation(self, name: str) -> Generation:
        """Raises NotFound if the journal has no such generation (gen-0000 has no row of its own)."""
        with self._read() as db:
            query = f"SELECT {GENERATION} FROM generations WHERE id = ?"
            return to_generation(_one(db, query, name, "generation"))

    def generations(self) -> list[Generation]:
        """All generations, oldest first."""
        with self._read() as db:
            rows = db.execute(f"SELECT {GENERATION} FROM generations ORDER BY number")
            return [to_generation(row) for row in rows]

    def generation_dreams(self, name: str) -> list[str]:
        """The dreams of a generation's dataset, train and stop, as `<night>/<id>`."""
        query = (
            "SELECT dreams.night || '/' || dreams.id FROM generation_dreams AS taught "
            "JOIN dreams ON dreams.number = taught.dream WHERE taught.generation = ? ORDER BY taught.dream"
        )
        with self._read() as db:
            return [dream for (dream,) in db.execute(query, (name,))]

    def record_activation(self, generation: str, at: datetime, reason: str) -> Future[None]:
        """Keep that a generation began to serve."""
        row = (generation, stamp(at), reason)

        def write(db: sqlite3.Connection) -> None:
            db.execute("INSERT INTO activations (generation, at, reason) VALUES (?, ?, ?)", row)

        return self._write(write)

    def activations(self, limit: int = 100) -> list[Activation]:
        """When which generation began to serve, newest first."""
        with self._read() as db:
            rows = db.execute(
                "SELECT generation, at, reason FROM activations ORDER BY number DESC LIMIT ?", (limit,)
            )
            return [Activation(name, datetime.fromisoformat(at), reason) for name, at, reason in rows]


def _insert_dream(db: sqlite3.Connection, night: str, generation: str, dream: Dream) -> None:
    if db.execute("SELECT 1 FROM dreams WHERE night = ? AND id = ?", (night, dream.id)).fetchone():
        return
    cursor = db.execute(
        "INSERT INTO dreams (id, night, generation, kind, claim, prompt, reply, cycle, attempt, score, "
        "accepted, reason) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            dream.id, night, generation, dream.kind, dream.claim, dream.prompt, dream.reply, dream.cycle,
            dream.attempt, dream.score, int(dream.accepted), dream.reason,
        ),
    )
    rows = [(memory, "bridge" if place else "own") for place, memory in enumerate(dream.memories)]
    rows += [(read.memory, read.how) for read in dream.reads]
    for ordinal, (memory, how) in enumerate(dict.fromkeys(rows)):
        _require(db, "memories", memory)
        db.execute("INSERT INTO dream_memories VALUES (?, ?, ?, ?)", (cursor.lastrowid, ordinal, memory, how))


def _dream_number(db: sqlite3.Connection, dream: str, night: str | None) -> int:
    where, _, name = dream.rpartition("/")
    query = "SELECT number FROM dreams WHERE night = ? AND id = ?"
    row = db.execute(query, (where or night, name)).fetchone()
    if row is None:
        raise NotFound(f"there is no dream {name!r} of night {where or night}", hint=PARTS)
    return int(row[0])


def _require(db: sqlite3.Connection, table: str, name: str) -> None:
    _one(db, f"SELECT id FROM {table} WHERE id = ?", name, {"memories": "memory"}.get(table, table[:-1]))


def _one(db: sqlite3.Connection, query: str, name: str, noun: str) -> Row:
    row: Row | None = db.execute(query, (name,)).fetchone()
    if row is None:
        raise NotFound(f"there is no {noun} {name!r}", hint=LISTED.get(noun, PARTS))
    return row
