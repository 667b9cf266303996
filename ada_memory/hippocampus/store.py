"""The SQLite file under the journal: one owner, one writer thread with group commit, many readers.

Writes enter as functions of a connection and leave as Futures that resolve after COMMIT. Writes that wait
share one transaction; a write that fails is rolled back to its own savepoint and fails alone.
"""

from __future__ import annotations

import os
import queue
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

from filelock import FileLock, Timeout

from ada_memory.errors import AdaError, JournalError
from ada_memory.hippocampus.migrations import migrate

T = TypeVar("T")
Write = Callable[[sqlite3.Connection], Any]
Job = tuple[Write, "Future[Any]"]
GROUP = 512  # writes in one transaction at most, so that the first caller is not kept waiting
BUSY_MS = 5_000
RESTORE = "restore a backup: docs/operations.md says how"
LOOK = f"`ada doctor --deep` looks into it; if it is damaged, {RESTORE}"
STOPPING = "the daemon is stopping: send it again when it is back"
WRITE_ERRORS = (AdaError, sqlite3.Error, ValueError, TypeError, OverflowError)


class Store:
    """An open journal file. Every method may be called from any thread."""

    def __init__(self, path: Path, lock: FileLock) -> None:
        self.path = path
        self._lock = lock
        self._writer = _connect(path)
        migrate(self._writer)
        self._readers: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        self._queue: queue.Queue[Job | None] = queue.Queue()
        self._gate = threading.Lock()
        self._accepting = True
        self._released = False
        self._commits = 0
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open or create the file, take its lock, apply migrations, start the writer.

        Raises:
            JournalError: another process owns it, or it is not a journal that can be read.
        """
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = FileLock(f"{path}.lock", thread_local=False, mode=0o600)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise JournalError(
                f"{path} is in use by another process",
                hint="one daemon owns a mind: stop the other one, or give this one its own mind.id",
            ) from None
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            store = cls(path, lock)
        except (sqlite3.Error, OSError) as error:
            lock.release()
            raise JournalError(f"{path} cannot be opened: {error}", hint=LOOK) from error
        except AdaError:
            lock.release()
            raise
        store._thread.start()
        return store

    def close(self) -> None:
        """Finish the writes that wait, then let go of the file. A second call does nothing."""
        with self._gate:
            if self._released:
                return
            self._accepting, self._released = False, True
            self._queue.put(None)
        self._thread.join()
        while not self._readers.empty():
            self._readers.get_nowait().close()
        self._writer.close()
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def commits(self) -> int:
        """How many transactions have been committed since the file was opened."""
        return self._commits

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """A connection for questions that this room does not know: it sees one snapshot, and only reads."""
        return self._read()

    def check(self) -> None:
        """Raises JournalError unless SQLite finds the whole file sound."""
        with self._read() as db:
            faults = [str(row[0]) for row in db.execute("PRAGMA integrity_check") if row[0] != "ok"]
            orphans = db.execute("PRAGMA foreign_key_check")
            faults += [f"{table} refers to {parent} that are gone" for table, _, parent, _ in orphans]
        if faults:
            raise JournalError(f"{self.path} is damaged: {'; '.join(faults[:3])}", hint=RESTORE)

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees one snapshot for as long as it is held."""
        if self._released:
            raise JournalError("the journal is closed", hint=STOPPING)
        try:
            db = self._readers.get_nowait()
        except queue.Empty:
            db = _connect(self.path)
            db.execute("PRAGMA query_only = ON")
        try:
            db.execute("BEGIN")
            yield db
        except sqlite3.Error as error:
            raise JournalError(f"{self.path} cannot be read: {error}", hint=LOOK) from error
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")
            if self._released:
                db.close()
            else:
                self._readers.put(db)

    def _write(self, write: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """Queue a write. The Future resolves once it is durable, or with what went wrong."""
        future: Future[T] = Future()
        with self._gate:
            if self._accepting:
                self._queue.put((write, future))
            else:
                future.set_exception(JournalError("the journal is closed", hint=STOPPING))
        return future

    def _run(self) -> None:
        """The writer thread: one transaction after another until the queue says to stop."""
        group: list[Job] = []
        try:
            more = True
            while more:
                group, more = self._next_group()
                if group:
                    self._commit(group)
        finally:  # reached by a bug too: nobody may wait for a writer that is gone
            with self._gate:
                self._accepting = False
                while not self._queue.empty():
                    if (job := self._queue.get_nowait()) is not None:
                        group.append(job)
            for _, future in group:
                if not future.done():
                    future.set_exception(JournalError("the journal's writer has ended", hint=STOPPING))

    def _next_group(self) -> tuple[list[Job], bool]:
        """Wait for a write, take all that wait behind it; False once the end of the queue was met."""
        group: list[Job] = []
        job = self._queue.get()
        while job is not None:
            if job[1].set_running_or_notify_cancel():
                group.append(job)
            if len(group) >= GROUP or self._queue.empty():
                return group, True
            job = self._queue.get_nowait()
        return group, False

    def _commit(self, group: list[Job]) -> None:
        """Run a group in one transaction, then tell each caller."""
        results: list[tuple[Any, AdaError | None]]
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            results = [self._attempt(write) for write, _ in group]
            self._writer.execute("COMMIT")
            self._commits += 1
        except sqlite3.Error as error:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            hint = "is the disk full? `ada doctor` looks"
            fault = JournalError(f"{self.path} cannot be written: {error}", hint=hint)
            fault.__cause__ = error
            results = [(None, fault)] * len(group)
        for (_, future), (result, failure) in zip(group, results, strict=True):
            if failure is None:
                future.set_result(result)
            else:
                future.set_exception(failure)

    def _attempt(self, write: Write) -> tuple[Any, AdaError | None]:
        """One write in its savepoint: its result, or its error with everything it did undone.

        Raises:
            sqlite3.Error: SQLite gave up the whole transaction (disk full, I/O error).
        """
        self._writer.execute("SAVEPOINT one")
        try:
            result = write(self._writer)
        except WRITE_ERRORS as error:
            if not self._writer.in_transaction:
                raise sqlite3.OperationalError(str(error)) from error
            self._writer.execute("ROLLBACK TO one")
            self._writer.execute("RELEASE one")
            if isinstance(error, AdaError):
                return None, error
            fault = JournalError(f"the journal refused a write: {error}", hint=LOOK)
            fault.__cause__ = error
            return None, fault
        self._writer.execute("RELEASE one")
        return result, None


def pragmas(platform: str = sys.platform) -> dict[str, str]:
    """What SQLite is told when the file is opened, in this order."""
    wanted = {"busy_timeout": f"{BUSY_MS}", "journal_mode": "WAL", "synchronous": "FULL"}
    if platform == "darwin":  # fsync alone does not reach the disk there
        wanted |= {"fullfsync": "ON", "checkpoint_fullfsync": "ON"}
    return wanted | {"foreign_keys": "ON"}


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    for name, value in pragmas().items():
        db.execute(f"PRAGMA {name} = {value}")
    return db
