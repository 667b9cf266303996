"""Reading SQLite files without leaving a trace. A path enters, a connection that cannot write leaves."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ada_memory.errors import JournalError
from ada_memory.service.checkup.finding import RESTORE


@contextmanager
def read_only(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a file that nobody else has open.

    What a daemon that was killed has left in the write-ahead log can only be read by a SQLite that may write
    beside it: such a journal is copied to a temporary folder first.

    Raises:
        JournalError: it is no SQLite file, or there is no room for the copy.
    """
    wal = path.with_name(f"{path.name}-wal")
    if not (wal.is_file() and wal.stat().st_size):
        with _opened(path, immutable=True) as db:
            yield db
        return
    with tempfile.TemporaryDirectory(prefix="ada-doctor-") as folder:
        need = path.stat().st_size + wal.stat().st_size
        if shutil.disk_usage(folder).free < 2 * need:
            raise JournalError(
                f"{path} was left by a killed daemon, and {folder} has no room for a copy to look at",
                hint="`ada run` recovers it by itself; or set TMPDIR to a place with room",
            )
        copy = Path(folder, path.name)
        shutil.copyfile(path, copy)
        shutil.copyfile(wal, copy.with_name(wal.name))
        with _opened(copy, immutable=False) as db:
            yield db


@contextmanager
def _opened(path: Path, *, immutable: bool) -> Iterator[sqlite3.Connection]:
    mode = "?mode=ro&immutable=1" if immutable else ""
    try:
        with closing(sqlite3.connect(path.absolute().as_uri() + mode, uri=True, isolation_level=None)) as db:
            db.execute("PRAGMA query_only = ON")
            db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            yield db
    except sqlite3.Error as error:
        raise JournalError(f"{path} cannot be read: {error}", hint=RESTORE) from error


def index_rows(chroma: Path, embedder: str) -> int | None:
    """How many rows Chroma's files hold for an embedder; None if there is no index."""
    file = chroma / "chroma.sqlite3"
    if not file.is_file():
        return None
    query = (
        "SELECT count(*) FROM collections JOIN segments ON segments.collection = collections.id "
        "JOIN embeddings ON embeddings.segment_id = segments.id WHERE collections.name = ?"
    )
    with read_only(file) as db:
        return int(db.execute(query, (f"memories-{embedder}",)).fetchone()[0])
