"""The journal: the truth of a mind. Drafts enter; interactions, memories and vectors leave.

One SQLite file, append-only. Nothing that was acknowledged is lost, nothing here is ever rewritten. It
knows no model and no embedder: vectors arrive finished, named by the hash of what made them.
"""

# ruff: noqa: S608 - the f-strings join constants of this room; values are always parameters

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from ada_memory.errors import BadInput, Conflict, NotFound
from ada_memory.hippocampus.lineage import Lineage
from ada_memory.hippocampus.rows import (
    INTERACTION,
    MEMORY,
    Row,
    dump,
    next_id,
    stamp,
    to_interaction,
    to_memory,
)
from ada_memory.records import Answer, Draft, Interaction, Memory, Receipt, Route

Floats = NDArray[np.float32]
WAITING = (  # set aside is no end: such a memory gets its chance in a later night
    "route = 'weights' AND instr(tags, '\"no-train\"') = 0 AND NOT EXISTS (SELECT 1 FROM settlements "
    "WHERE memory = memories.id AND outcome IN ('learned', 'skipped', 'superseded'))"
)
COUNTED = (  # ... but it does not call for one: else a memory that always fails would start night after night
    "route = 'weights' AND instr(tags, '\"no-train\"') = 0 AND NOT EXISTS (SELECT 1 FROM settlements "
    "WHERE memory = memories.id)"
)


class Journal(Lineage):
    """An open journal: `Journal.open(path)`, then `close()`; also a context manager."""

    def __init__(self, path: Path, lock: FileLock) -> None:
        super().__init__(path, lock)
        self._cache: dict[str, tuple[int, list[str], Floats]] = {}
        self._cache_lock = threading.Lock()

    def append(self, draft: Draft) -> Future[Receipt]:
        """Keep an interaction; its receipt comes once it is on disk (a duplicate if (app, key) was there).

        The Future fails with Conflict if the key was used for other content (time and peer aside).

        Raises:
            BadInput: no messages, a time without a zone, text that is not Unicode.
        """
        if not draft.messages:
            raise BadInput("an interaction needs at least one message", field="messages")
        row = (
            draft.app, draft.session, draft.kind, stamp(draft.at), dump(draft.tags), draft.key, draft.peer_uid
        )
        messages = [(ordinal, m.role, m.content) for ordinal, m in enumerate(draft.messages)]
        texts = (draft.app, draft.session, draft.key or "", *(m.content for m in draft.messages))
        try:
            "".join(texts).encode()
        except UnicodeEncodeError:
            raise BadInput("text holds half of a surrogate pair", field="messages") from None

        def write(db: sqlite3.Connection) -> Receipt:
            if draft.key is not None and (first := _by_key(db, draft)) is not None:
                return first
            name = next_id(_value(db, "SELECT id FROM interactions ORDER BY position DESC LIMIT 1"))
            cursor = db.execute(
                "INSERT INTO interactions (id, app, session, kind, at, tags, key, peer_uid) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (name, *row),
            )
            position = int(cursor.lastrowid or 0)
            db.executemany("INSERT INTO messages VALUES (?, ?, ?, ?)", [(position, *m) for m in messages])
            db.execute("INSERT INTO unencoded VALUES (?)", (position,))
            if draft.answer is not None:
                _insert_answer(db, position, draft.answer)
            return Receipt(name, position, duplicate=False)

        return self._write(write)

    def interactions(self, after: int = 0, limit: int = 100) -> list[Interaction]:
        """Interactions beyond a position, in order."""
        with self._read() as db:
            where = "WHERE position > ? ORDER BY position LIMIT ?"
            return _interactions(db, where, (after, limit))

    def interaction(self, name: str) -> Interaction:
        """Raises NotFound if no interaction has this id."""
        with self._read() as db:
            for found in _interactions(db, "WHERE id = ?", (name,)):
                return found
        raise NotFound(f"there is no interaction {name!r}", hint="the id is what the post was answered with")

    def unencoded(self, limit: int = 100, skip: Iterable[int] = ()) -> list[Interaction]:
        """The first interactions whose memories have not been made yet, in order; `skip` is passed over."""
        left_out = json.dumps(sorted(skip))
        with self._read() as db:
            first = (
                "SELECT position FROM unencoded WHERE position NOT IN (SELECT value FROM json_each(?)) "
                "ORDER BY position LIMIT ?"
            )
            where = f"WHERE position IN ({first}) ORDER BY position"
            return _interactions(db, where, (left_out, limit))

    def encode(
        self, position: int, memories: Sequence[tuple[Memory, Floats | None]], embedder: str
    ) -> Future[None]:
        """Keep what an interaction left behind, all or nothing. A second call for a position changes nothing.

        The Future fails with NotFound if there is no such position.

        Raises:
            BadInput: a vector that is not one-dimensional and finite.
        """
        kept = [(memory, None if vector is None else _bytes(vector)) for memory, vector in memories]

        def write(db: sqlite3.Connection) -> None:
            if not db.execute("DELETE FROM unencoded WHERE position = ?", (position,)).rowcount:
                if _value(db, "SELECT 1 FROM interactions WHERE position = ?", position) is None:
                    raise NotFound(f"there is no interaction at position {position}")
                return
            for memory, vector in kept:
                _insert_memory(db, memory, position)
                if vector is not None:
                    row = (memory.id, embedder, vector)
                    db.execute("INSERT INTO vectors (memory, embedder, vector) VALUES (?, ?, ?)", row)

        return self._write(write)

    def memories(
        self, *, ids: Iterable[str] | None = None, route: Route | None = None, limit: int | None = None,
        newest_first: bool = False,
    ) -> list[Memory]:
        """Memories in the order made (or the reverse); ids that do not exist are left out."""
        clauses: list[str] = []
        values: list[object] = []
        if ids is not None:
            clauses.append("id IN (SELECT value FROM json_each(?))")
            values.append(dump(list(ids)))
        if route is not None:
            clauses.append("route = ?")
            values.append(route)
        where = f"WHERE {' AND '.join(clauses)}" if clauses else ""
        order = "DESC" if newest_first else "ASC"
        query = f"SELECT {MEMORY} FROM memories {where} ORDER BY number {order} LIMIT ?"
        with self._read() as db:
            return [to_memory(row) for row in db.execute(query, (*values, -1 if limit is None else limit))]

    def memory(self, name: str) -> Memory:
        """Raises NotFound if no memory has this id."""
        for found in self.memories(ids=[name]):
            return found
        raise NotFound(f"there is no memory {name!r}", hint="`ada memories` lists the newest")

    def waiting(self) -> list[Memory]:
        """Memories that the weights are yet to learn, those that a night set aside included."""
        with self._read() as db:
            rows = db.execute(f"SELECT {MEMORY} FROM memories WHERE {WAITING} ORDER BY number")
            return [to_memory(row) for row in rows]

    def waiting_count(self) -> int:
        """What the capacity threshold looks at: memories that no activated night has dealt with."""
        with self._read() as db:
            return int(_value(db, f"SELECT count(*) FROM memories WHERE {COUNTED}"))

    def vectors(self, embedder: str, ids: Iterable[str] | None = None) -> tuple[list[str], Floats]:
        """Ids and vectors (n, d), row by row, of the memories that may be recalled; or of those in `ids`.

        The matrix is shared and read-only; without any vector its shape is (0, 0).
        """
        if ids is not None:
            query = _VECTORS + " AND memory IN (SELECT value FROM json_each(?))"
            with self._read() as db:
                rows = db.execute(query, (embedder, 0, dump(list(ids)))).fetchall()
            return [row[1] for row in rows], _matrix([row[2] for row in rows])
        with self._cache_lock:  # vectors are only ever added: read what is new since the last call
            last, names, matrix = self._cache.get(embedder, (0, [], _matrix([])))
            with self._read() as db:
                rows = db.execute(_VECTORS + " ORDER BY vectors.number", (embedder, last)).fetchall()
            if rows:
                fresh = _matrix([row[2] for row in rows])
                matrix = np.concatenate([matrix, fresh]) if names else fresh
                matrix.setflags(write=False)
                names = names + [row[1] for row in rows]
                self._cache[embedder] = (rows[-1][0], names, matrix)
            return list(names), matrix

    def vector_count(self, embedder: str) -> int:
        """How many vectors of an embedder there are, those that may not be recalled included."""
        with self._read() as db:
            return int(_value(db, "SELECT count(*) FROM vectors WHERE embedder = ?", embedder))

    def recallable(self, embedder: str) -> list[str]:
        """Ids of the memories with a vector of that embedder which may be recalled, in the order made."""
        query = f"SELECT memory FROM {_RECALLABLE} ORDER BY vectors.number"
        with self._read() as db:
            return [name for (name,) in db.execute(query, (embedder,))]

    def recallable_count(self, embedder: str) -> int:
        """How many memories with a vector of that embedder may be recalled."""
        with self._read() as db:
            return int(_value(db, f"SELECT count(*) FROM {_RECALLABLE}", embedder))

    def position(self) -> int:
        """Position of the last interaction, 0 if there is none."""
        with self._read() as db:
            return int(_value(db, "SELECT coalesce(max(position), 0) FROM interactions"))

    def counts(self) -> dict[str, int]:
        """How many interactions, unencoded ones, memories, dreams, nights and generations there are."""
        tables = ("interactions", "unencoded", "memories", "dreams", "nights", "generations")
        with self._read() as db:
            counts = {table: int(_value(db, f"SELECT count(*) FROM {table}")) for table in tables}
        return counts | {"waiting": self.waiting_count()}


_RECALLABLE = (
    "vectors JOIN memories ON memories.id = memory WHERE embedder = ? "
    "AND route <> 'ignored' AND instr(tags, '\"no-recall\"') = 0"
)
_VECTORS = (
    "SELECT vectors.number, memory, vector FROM vectors JOIN memories ON memories.id = memory "
    "WHERE embedder = ? AND vectors.number > ? AND instr(tags, '\"no-recall\"') = 0"
)


def _value(db: sqlite3.Connection, query: str, *values: object) -> Any:
    row = db.execute(query, values).fetchone()
    return None if row is None else row[0]


def _messages(db: sqlite3.Connection, position: int) -> list[tuple[Any, str]]:
    query = "SELECT role, content FROM messages WHERE position = ? ORDER BY ordinal"
    return [(role, content) for role, content in db.execute(query, (position,))]


def _interactions(db: sqlite3.Connection, where: str, values: Row) -> list[Interaction]:
    rows = db.execute(f"SELECT {INTERACTION} FROM interactions {where}", values).fetchall()
    return [to_interaction(row, _messages(db, row[0])) for row in rows]


def _by_key(db: sqlite3.Connection, draft: Draft) -> Receipt | None:
    """What this key was used for before. Raises Conflict if that was something else."""
    for first in _interactions(db, "WHERE app = ? AND key = ?", (draft.app, draft.key)):
        then = first.draft
        if (then.messages, then.session, then.kind, then.tags) != (
            draft.messages, draft.session, draft.kind, draft.tags
        ):
            raise Conflict(
            f"the key {draft.key!r} was used for other content",
            hint="one key is one interaction: send this one with a key of its own", field="key",
        )
        return Receipt(first.id, first.position, duplicate=True)
    return None


def _insert_answer(db: sqlite3.Connection, position: int, answer: Answer) -> None:
    """Who answered, and from what. A memory that was forgotten meanwhile does not hold up the turn."""
    db.execute("INSERT INTO answers VALUES (?, ?, ?)", (position, answer.id, answer.generation))
    for ordinal, memory in enumerate(dict.fromkeys(answer.memories)):
        row = (position, ordinal, memory)
        db.execute("INSERT INTO answer_memories SELECT ?, ?, id FROM memories WHERE id = ?", row)


def _insert_memory(db: sqlite3.Connection, memory: Memory, position: int) -> None:
    db.execute(
        "INSERT INTO memories (id, text, role, at, route, salience, reasons, tags) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            memory.id, memory.text, memory.role, stamp(memory.at), memory.route, memory.salience.score,
            json.dumps(dict(memory.salience.reasons)), dump(memory.tags),
        ),
    )
    positions = sorted({position, *memory.interactions})
    db.executemany("INSERT INTO memory_interactions VALUES (?, ?)", [(memory.id, p) for p in positions])


def _bytes(vector: Floats) -> bytes:
    floats = np.ascontiguousarray(vector, dtype="<f4")
    if floats.ndim != 1 or not np.isfinite(floats).all():
        raise BadInput("a vector must be one row of finite numbers")
    return floats.tobytes()


def _matrix(blobs: Sequence[bytes]) -> Floats:
    if not blobs:
        return np.zeros((0, 0), dtype=np.float32)
    return np.frombuffer(b"".join(blobs), dtype="<f4").reshape(len(blobs), -1).astype(np.float32)
