"""The journal's schema, as an ordered list of functions: each is applied once, in its own transaction.

A connection enters, a connection with every table leaves. A migration that has been released is never
edited; a change is a new function at the end of MIGRATIONS.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from ada_memory.errors import JournalError

Migration = Callable[[sqlite3.Connection], None]


def m001_journal(db: sqlite3.Connection) -> None:
    """What apps hand in. AUTOINCREMENT: a position is never given twice, even after a deletion."""
    for statement in (
        """CREATE TABLE interactions (
            position INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
            app TEXT NOT NULL, session TEXT NOT NULL, kind TEXT NOT NULL, at TEXT NOT NULL,
            tags TEXT NOT NULL, key TEXT, peer_uid INTEGER, UNIQUE (app, key)) STRICT""",
        """CREATE TABLE messages (
            position INTEGER NOT NULL REFERENCES interactions, ordinal INTEGER NOT NULL,
            role TEXT NOT NULL, content TEXT NOT NULL,
            PRIMARY KEY (position, ordinal)) STRICT, WITHOUT ROWID""",
        # A queue rather than a flag: interactions stay append-only, and finding work never scans the journal.
        "CREATE TABLE unencoded (position INTEGER PRIMARY KEY REFERENCES interactions) STRICT",
        """CREATE TRIGGER interactions_are_append_only BEFORE UPDATE ON interactions
            BEGIN SELECT RAISE(ABORT, 'interactions are append-only'); END""",
        """CREATE TRIGGER messages_are_append_only BEFORE UPDATE ON messages
            BEGIN SELECT RAISE(ABORT, 'messages are append-only'); END""",
    ):
        db.execute(statement)


def m002_memories(db: sqlite3.Connection) -> None:
    """What was worth keeping, where it came from, and its vectors by embedder."""
    for statement in (
        """CREATE TABLE memories (
            number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, text TEXT NOT NULL,
            role TEXT NOT NULL, at TEXT NOT NULL, route TEXT NOT NULL, salience REAL NOT NULL,
            reasons TEXT NOT NULL, tags TEXT NOT NULL) STRICT""",
        "CREATE INDEX memories_by_route ON memories (route)",
        """CREATE TABLE memory_interactions (
            memory TEXT NOT NULL REFERENCES memories (id), position INTEGER NOT NULL REFERENCES interactions,
            PRIMARY KEY (memory, position)) STRICT, WITHOUT ROWID""",
        "CREATE INDEX memories_by_interaction ON memory_interactions (position)",
        """CREATE TABLE vectors (
            number INTEGER PRIMARY KEY AUTOINCREMENT, memory TEXT NOT NULL REFERENCES memories (id),
            embedder TEXT NOT NULL, vector BLOB NOT NULL, UNIQUE (memory, embedder)) STRICT""",
        "CREATE INDEX vectors_by_embedder ON vectors (embedder)",
    ):
        db.execute(statement)


def m003_nights(db: sqlite3.Connection) -> None:
    """Nights, their finished stages, what they dreamt, and what became of each memory."""
    for statement in (
        """CREATE TABLE nights (
            number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,
            opened_at TEXT NOT NULL, upto INTEGER NOT NULL, parent TEXT NOT NULL,
            seed INTEGER NOT NULL) STRICT""",
        """CREATE TABLE stages (
            number INTEGER PRIMARY KEY AUTOINCREMENT, night TEXT NOT NULL REFERENCES nights (id),
            name TEXT NOT NULL, outcome TEXT NOT NULL, reason TEXT NOT NULL, started_at TEXT NOT NULL,
            finished_at TEXT NOT NULL, figures TEXT NOT NULL, UNIQUE (night, name)) STRICT""",
        """CREATE TABLE dreams (
            number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL,
            night TEXT NOT NULL REFERENCES nights (id), generation TEXT NOT NULL, kind TEXT NOT NULL,
            claim TEXT NOT NULL, prompt TEXT NOT NULL, reply TEXT NOT NULL, cycle INTEGER NOT NULL,
            attempt INTEGER NOT NULL, score REAL, accepted INTEGER NOT NULL, reason TEXT NOT NULL,
            UNIQUE (night, id)) STRICT""",
        """CREATE TABLE dream_memories (
            dream INTEGER NOT NULL REFERENCES dreams, ordinal INTEGER NOT NULL,
            memory TEXT NOT NULL REFERENCES memories (id), how TEXT NOT NULL,
            PRIMARY KEY (dream, ordinal)) STRICT, WITHOUT ROWID""",
        "CREATE INDEX dreams_by_memory ON dream_memories (memory)",
        """CREATE TABLE settlements (
            number INTEGER PRIMARY KEY AUTOINCREMENT, night TEXT NOT NULL REFERENCES nights (id),
            memory TEXT NOT NULL REFERENCES memories (id), outcome TEXT NOT NULL, reason TEXT NOT NULL,
            UNIQUE (night, memory)) STRICT""",
        "CREATE INDEX settlements_by_memory ON settlements (memory)",
    ):
        db.execute(statement)


def m004_generations(db: sqlite3.Connection) -> None:
    """Versions of the mind, the dreams each was trained on, and when each came to serve.

    Neither parent nor activation refers to a row: the pristine base (gen-0000) has none.
    """
    for statement in (
        """CREATE TABLE generations (
            number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, parent TEXT,
            night TEXT REFERENCES nights (id), adapter TEXT, created_at TEXT NOT NULL,
            verdict TEXT) STRICT""",
        """CREATE TABLE generation_dreams (
            generation TEXT NOT NULL REFERENCES generations (id), dream INTEGER NOT NULL REFERENCES dreams,
            PRIMARY KEY (generation, dream)) STRICT, WITHOUT ROWID""",
        "CREATE INDEX generations_by_dream ON generation_dreams (dream)",
        """CREATE TABLE activations (
            number INTEGER PRIMARY KEY AUTOINCREMENT, generation TEXT NOT NULL, at TEXT NOT NULL,
            reason TEXT NOT NULL) STRICT""",
    ):
        db.execute(statement)


def m005_lineage(db: sqlite3.Connection) -> None:
    """What was read for what: every reader of a dream, the part of a dataset, what an answer was given from.

    `how` in dream_memories is own, bridge, verifier or rewriter; a dream may read one memory in several ways.
    `part` is train, or stop for questions that only decide when training ends; older rows all say train.
    Who verified a dream is not a column: it is the generation that dreamt it, the voice of the night.
    """
    for statement in (
        "DROP INDEX dreams_by_memory",
        "CREATE UNIQUE INDEX dreams_by_memory ON dream_memories (memory, dream, how)",
        "ALTER TABLE generation_dreams ADD COLUMN part TEXT NOT NULL DEFAULT 'train'",
        "CREATE INDEX generations_by_night ON generations (night)",
        """CREATE TABLE overrides (
            night TEXT NOT NULL REFERENCES nights (id), memory TEXT NOT NULL REFERENCES memories (id),
            claim TEXT NOT NULL, newer TEXT NOT NULL REFERENCES memories (id),
            PRIMARY KEY (night, memory, claim)) STRICT, WITHOUT ROWID""",
        "CREATE INDEX overrides_by_memory ON overrides (memory)",
        "CREATE INDEX overrides_by_newer ON overrides (newer)",
        """CREATE TABLE answers (
            position INTEGER PRIMARY KEY REFERENCES interactions, id TEXT NOT NULL UNIQUE,
            generation TEXT NOT NULL) STRICT""",
        "CREATE INDEX answers_by_generation ON answers (generation)",
        """CREATE TABLE answer_memories (
            position INTEGER NOT NULL REFERENCES answers, ordinal INTEGER NOT NULL,
            memory TEXT NOT NULL REFERENCES memories (id),
            PRIMARY KEY (position, ordinal)) STRICT, WITHOUT ROWID""",
        "CREATE INDEX answers_by_memory ON answer_memories (memory)",
    ):
        db.execute(statement)


def m006_depth(db: sqlite3.Connection) -> None:
    """How deep a night was. Those of before had all their cycles and rehearsed: they were deep."""
    db.execute("ALTER TABLE nights ADD COLUMN depth TEXT NOT NULL DEFAULT 'deep'")


def m007_reviews(db: sqlite3.Connection) -> None:
    """How well learned memories were known, by the night that asked."""
    db.execute(
        """CREATE TABLE reviews (
            night TEXT NOT NULL REFERENCES nights (id), memory TEXT NOT NULL REFERENCES memories (id),
            asked INTEGER NOT NULL, right INTEGER NOT NULL,
            PRIMARY KEY (night, memory)) STRICT, WITHOUT ROWID"""
    )


MIGRATIONS: tuple[Migration, ...] = (
    m001_journal, m002_memories, m003_nights, m004_generations, m005_lineage, m006_depth, m007_reviews,
)


def migrate(db: sqlite3.Connection, migrations: tuple[Migration, ...] = MIGRATIONS) -> list[str]:
    """Apply what has not been applied yet, in order; returns the names applied now.

    Raises:
        JournalError: the file has migrations that this version does not know.
    """
    db.execute("CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID")
    applied = {name for (name,) in db.execute("SELECT name FROM migrations")}
    unknown = applied - {migration.__name__ for migration in migrations}
    if unknown:
        raise JournalError(
            f"the journal was written by a newer version (migration {min(unknown)})", hint="update Ada"
        )
    fresh = [migration for migration in migrations if migration.__name__ not in applied]
    for migration in fresh:
        db.execute("BEGIN IMMEDIATE")
        try:
            migration(db)
            db.execute("INSERT INTO migrations VALUES (?)", (migration.__name__,))
            db.execute("COMMIT")
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")
    return [migration.__name__ for migration in fresh]
