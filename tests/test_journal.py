"""The journal keeps what it acknowledged, once, in order, and whole."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ada_memory.errors import BadInput, Conflict, JournalError, NotFound
from ada_memory.hippocampus.journal import Journal
from ada_memory.hippocampus.migrations import MIGRATIONS
from ada_memory.records import (
    Draft,
    Dream,
    Generation,
    Memory,
    Message,
    NightRecord,
    Receipt,
    Route,
    Salience,
    StageName,
    StageRecord,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
WAIT = 20


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path / "journal.db") as opened:
        yield opened


def draft(text: str = "My cat is called Mo.", key: str | None = None, app: str = "app") -> Draft:
    return Draft((Message("user", text),), NOON, app=app, key=key)


def memory(position: int, route: Route = "weights", tags: tuple[str, ...] = (), ordinal: int = 0) -> Memory:
    name = f"m{position:06}-{ordinal}"
    salience = Salience(0.5, {"novelty": 1.0})
    return Memory(name, f"text {name}", "user", NOON, route, salience, (position,), tags)


def keep(journal: Journal, *memories: Memory) -> None:
    """Append an interaction for each memory and encode it."""
    for kept in memories:
        receipt = journal.append(draft()).result(WAIT)
        assert receipt.position == kept.interactions[0]
        journal.encode(receipt.position, [(kept, np.eye(4, dtype=np.float32)[0])], "e1").result(WAIT)


def night(name: str, parent: str = "gen-0000") -> NightRecord:
    return NightRecord(name, "manual", NOON, 1, parent, 7)


def stage(name: str, night: str, at: datetime = NOON) -> StageRecord:
    stages: dict[str, StageName] = {"gather": "gather", "report": "report"}
    return StageRecord(night, stages[name], "done", "", at, at + timedelta(seconds=3), {"made": 3})


# Interactions ------------------------------------------------------------------------------------------


def test_what_is_appended_comes_back_as_it_was(journal: Journal) -> None:
    there = Draft(
        (Message("user", "Zürich \x00 \N{CAT FACE}"), Message("thought", "hm"), Message("tool", "{}")),
        datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=2))),
        "s", "a", "rag", ("later", "no-train"), "k", 1000,
    )
    receipt = journal.append(there).result(WAIT)
    found = journal.interaction(receipt.id)
    assert (found.position, found.draft) == (1, there)
    assert found.draft.at.utcoffset() == timedelta(0)
    assert journal.interactions() == [found]


def test_ids_sort_as_positions_do(journal: Journal) -> None:
    receipts = [future.result(WAIT) for future in [journal.append(draft(str(n))) for n in range(50)]]
    assert [r.position for r in receipts] == list(range(1, 51))
    assert sorted(receipts, key=lambda r: r.id) == receipts
    some = journal.interactions(after=10, limit=3)
    assert [i.draft.messages[0].content for i in some] == ["10", "11", "12"]


def test_the_same_key_is_kept_once_and_other_content_is_a_conflict(journal: Journal) -> None:
    first = journal.append(draft("a", key="k")).result(WAIT)
    again = journal.append(Draft((Message("user", "a"),), NOON + timedelta(days=1), app="app", key="k"))
    assert again.result(WAIT) == Receipt(first.id, first.position, duplicate=True)
    with pytest.raises(Conflict, match="k"):
        journal.append(draft("b", key="k")).result(WAIT)
    assert not journal.append(draft("b", key="k", app="other")).result(WAIT).duplicate
    assert journal.position() == 2


@pytest.mark.parametrize(
    "bad",
    [
        Draft((), NOON),
        Draft((Message("user", "a"),), datetime(2026, 3, 1)),  # noqa: DTZ001 - that is what is refused
        draft("\ud800"),
    ],
)
def test_a_draft_that_cannot_be_kept_is_refused_at_once(journal: Journal, bad: Draft) -> None:
    with pytest.raises(BadInput):
        journal.append(bad)
    assert journal.position() == 0


def test_interactions_cannot_be_rewritten(journal: Journal) -> None:
    journal.append(draft()).result(WAIT)
    with sqlite3.connect(journal.path) as other, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        other.execute("UPDATE interactions SET app = 'x'")
    other.close()


def test_unknown_names_are_not_found(journal: Journal) -> None:
    for ask in (journal.interaction, journal.memory, journal.night, journal.generation):
        with pytest.raises(NotFound):
            ask("nope")


# The writer --------------------------------------------------------------------------------------------


def test_writes_that_wait_share_a_commit(journal: Journal) -> None:
    journal.append(draft()).result(WAIT)
    before = journal.commits
    blocker = sqlite3.connect(journal.path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    futures: list[Future[Receipt]] = []
    threads = [threading.Thread(target=lambda: futures.append(journal.append(draft()))) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    blocker.execute("COMMIT")
    blocker.close()
    assert sorted(future.result(WAIT).position for future in futures) == list(range(2, 42))
    assert 1 <= journal.commits - before <= 2  # what came first, and all that waited meanwhile


def test_a_write_that_fails_fails_alone_and_leaves_no_gap(journal: Journal) -> None:
    journal.append(draft("a", key="k")).result(WAIT)
    blocker = sqlite3.connect(journal.path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    before = journal.append(draft("b"))
    conflict = journal.append(draft("z", key="k"))
    gone = journal.encode(99, [], "e1")
    after = journal.append(draft("c"))
    blocker.execute("COMMIT")
    blocker.close()
    assert (before.result(WAIT).position, after.result(WAIT).position) == (2, 3)
    assert isinstance(conflict.exception(WAIT), Conflict)
    assert isinstance(gone.exception(WAIT), NotFound)


def test_half_a_write_is_undone(journal: Journal) -> None:
    for _ in range(2):
        journal.append(draft()).result(WAIT)
    journal.encode(1, [(memory(1), None)], "e1").result(WAIT)
    clash = [(memory(2), None), (memory(1), None)]
    assert isinstance(journal.encode(2, clash, "e1").exception(WAIT), JournalError)
    assert [m.id for m in journal.memories()] == ["m000001-0"]
    assert [i.position for i in journal.unencoded(10)] == [2]


def test_a_cancelled_write_does_not_stop_the_others(journal: Journal) -> None:
    blocker = sqlite3.connect(journal.path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    journal.append(draft("a"))
    futures = [journal.append(draft("b")) for _ in range(20)]
    cancelled = [future for future in futures if future.cancel()]
    blocker.execute("COMMIT")
    blocker.close()
    journal.append(draft("c")).result(WAIT)
    assert cancelled
    assert journal.position() == 22 - len(cancelled)


def test_a_bug_in_a_write_leaves_nobody_waiting(tmp_path: Path) -> None:
    class Bug(BaseException):
        pass

    def broken(_: sqlite3.Connection) -> None:
        raise Bug

    journal = Journal.open(tmp_path / "journal.db")
    hook, threading.excepthook = threading.excepthook, lambda _: None
    try:
        with pytest.raises(JournalError):
            journal._write(broken).result(WAIT)
        with pytest.raises(JournalError):
            journal.append(draft()).result(WAIT)
    finally:
        journal.close()
        threading.excepthook = hook
    with Journal.open(tmp_path / "journal.db") as again:
        assert again.position() == 0


def test_closing_finishes_what_waits_and_then_refuses(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journal.db")
    futures = [journal.append(draft(str(n))) for n in range(30)]
    journal.close()
    journal.close()
    assert [future.result(0).position for future in futures] == list(range(1, 31))
    with pytest.raises(JournalError, match="closed"):
        journal.append(draft()).result(WAIT)
    with pytest.raises(JournalError, match="closed"):
        journal.position()


# The file ----------------------------------------------------------------------------------------------


def test_a_second_owner_is_told_what_to_do(journal: Journal) -> None:
    with pytest.raises(JournalError) as caught:
        Journal.open(journal.path)
    assert "in use" in caught.value.message
    assert "stop the other" in caught.value.hint


def test_the_file_is_the_owners_alone_and_durable(journal: Journal) -> None:
    assert journal.path.stat().st_mode & 0o777 == 0o600

    def pragmas(db: sqlite3.Connection) -> list[object]:
        return [db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]

    assert journal._write(pragmas).result(WAIT) == ["wal", 2]


def test_a_file_that_is_no_journal_is_named(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(b"not a database at all, but long enough to be looked at" * 100)
    for _ in range(2):  # the lock was let go of
        with pytest.raises(JournalError, match=r"journal\.db cannot be opened"):
            Journal.open(path)


def test_migrations_are_applied_once_and_newer_ones_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with Journal.open(path) as journal:
        journal.append(draft()).result(WAIT)
    with Journal.open(path) as journal:
        assert journal.position() == 1
    with sqlite3.connect(path) as db:
        names = {name for (name,) in db.execute("SELECT name FROM migrations")}
        db.execute("INSERT INTO migrations VALUES ('m999_future')")
    db.close()
    assert names == {migration.__name__ for migration in MIGRATIONS}
    with pytest.raises(JournalError, match="newer"):
        Journal.open(path)


CHILD = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from ada_memory.hippocampus.journal import Journal
from ada_memory.records import Draft, Message

journal = Journal.open(Path(sys.argv[1]))
for n in range(1_000_000):
    drafts = [Draft((Message("user", f"{n}.{i} " + "x" * 300),), datetime.now(UTC)) for i in range(3)]
    for future in [journal.append(draft) for draft in drafts]:
        receipt = future.result()
        print(receipt.id, receipt.position, flush=True)
"""


@pytest.mark.parametrize("acknowledged", [1, 40, 300])
def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path, acknowledged: int) -> None:
    path = tmp_path / "journal.db"
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    lines = [child.stdout.readline() for _ in range(acknowledged)]
    os.kill(child.pid, signal.SIGKILL)
    lines += child.stdout.readlines()
    child.stdout.close()
    assert child.wait(WAIT) == -signal.SIGKILL
    receipts = [line.split() for line in lines if line.endswith("\n")]
    with Journal.open(path) as journal:
        journal.check()
        kept = journal.interactions(limit=1_000_000)
    assert len(receipts) >= acknowledged
    assert {(name, int(position)) for name, position in receipts} <= {(i.id, i.position) for i in kept}
    assert [i.position for i in kept] == list(range(1, len(kept) + 1))
    assert all(i.draft.messages[0].content.endswith("x" * 300) for i in kept)


# Memories ----------------------------------------------------------------------------------------------


def test_encoding_is_one_step_and_happens_once(journal: Journal) -> None:
    for _ in range(3):
        journal.append(draft()).result(WAIT)
    one, two = memory(1), memory(1, "verbatim", ("later",), ordinal=1)
    vector = np.array([0.6, 0.8], dtype=np.float32)
    journal.encode(1, [(one, vector), (two, None)], "e1").result(WAIT)
    journal.encode(1, [(memory(1, ordinal=7), vector)], "e1").result(WAIT)
    journal.encode(2, [], "e1").result(WAIT)
    assert journal.memories() == [one, two]
    assert journal.memories(newest_first=True, limit=1) == [two]
    assert journal.memories(route="verbatim") == [two]
    assert journal.memories(ids=[two.id, "nope"]) == [two]
    assert journal.memories(ids=[]) == []
    assert journal.memory(one.id) == one
    assert [i.position for i in journal.unencoded(10)] == [3]
    assert journal.counts() == {
        "interactions": 3, "unencoded": 1, "memories": 2, "waiting": 1, "dreams": 0, "nights": 0,
        "generations": 0,
    }


def test_vectors_are_exact_by_embedder_and_never_those_that_must_not_be_recalled(journal: Journal) -> None:
    names, matrix = journal.vectors("e1")
    assert (names, matrix.shape) == ([], (0, 0))
    rows = np.random.default_rng(3).normal(size=(4, 5)).astype(np.float32)
    for position, row in enumerate(rows, 1):
        journal.append(draft()).result(WAIT)
        tags = ("no-recall",) if position == 2 else ()
        embedder = "e2" if position == 3 else "e1"
        journal.encode(position, [(memory(position, tags=tags), row)], embedder).result(WAIT)
        names, matrix = journal.vectors("e1")  # each call sees what the last one did not
    assert names == ["m000001-0", "m000004-0"]
    assert matrix.tobytes() == rows[[0, 3]].tobytes()
    assert journal.vectors("e2")[0] == ["m000003-0"]
    names, matrix = journal.vectors("e1", ids=["m000004-0", "m000002-0"])
    assert (names, matrix.tobytes()) == (["m000004-0"], rows[3].tobytes())


@pytest.mark.parametrize("bad", [np.full(3, np.nan), np.zeros((2, 2))])
def test_a_vector_that_is_none_is_refused(journal: Journal, bad: np.ndarray) -> None:
    journal.append(draft()).result(WAIT)
    with pytest.raises(BadInput):
        journal.encode(1, [(memory(1), bad.astype(np.float32))], "e1")


def test_waiting_until_a_night_settles_it(journal: Journal) -> None:
    keep(
        journal, memory(1), memory(2), memory(3, tags=("no-train",)), memory(4, "verbatim"),
        memory(5, "ignored"), memory(6, tags=("later",)), memory(7), memory(8),
    )
    names = {n: f"m{n:06}-0" for n in range(1, 9)}
    assert [m.id for m in journal.waiting()] == [names[n] for n in (1, 2, 6, 7, 8)]
    assert journal.waiting_count() == 5
    journal.open_night(night("p8")).result(WAIT)
    journal.settle(
        "p8",
        {
            names[1]: ("learned", ""), names[2]: ("skipped", "cap"), names[6]: ("set_aside", "no claim"),
            names[7]: ("superseded", names[8]),
        },
    ).result(WAIT)
    journal.settle("p8", {names[1]: ("set_aside", "again")}).result(WAIT)
    assert [m.id for m in journal.waiting()] == [names[6], names[8]]
    assert journal.waiting_count() == 1
    assert journal.settlements()[names[1]] == ("p8", "learned", "")
    with pytest.raises(NotFound, match="m999"):
        journal.settle("p8", {"m999": ("learned", "")}).result(WAIT)


# Nights and generations --------------------------------------------------------------------------------


def test_a_night_is_unfinished_until_its_report(journal: Journal) -> None:
    assert journal.unfinished_night() is None
    assert journal.last_slept() is None
    first = journal.open_night(night("p1")).result(WAIT)
    assert journal.open_night(night("p1", parent="gen-0009")).result(WAIT) == first
    journal.open_night(night("p2")).result(WAIT)
    assert journal.nights(10) == [night("p2"), night("p1")]
    gather = stage("gather", "p1")
    journal.record_stage(gather).result(WAIT)
    journal.record_stage(stage("gather", "p1", NOON + timedelta(days=9))).result(WAIT)
    assert journal.stages("p1") == [gather]
    assert journal.unfinished_night() == night("p1")
    report = stage("report", "p1", NOON + timedelta(hours=1))
    journal.record_stage(report).result(WAIT)
    assert journal.stages("p1") == [gather, report]
    assert journal.unfinished_night() == night("p2")
    assert journal.last_slept() == report.finished_at
    with pytest.raises(NotFound):
        journal.record_stage(stage("gather", "nope")).result(WAIT)


def test_dreams_know_every_memory_and_generations_their_dreams(journal: Journal) -> None:
    keep(journal, memory(1), memory(2))
    journal.open_night(night("p2")).result(WAIT)
    own = Dream("d1", "question", ("m000001-0",), "c", "p", "r", 0, 1, 0.75, True, "")
    bridge = Dream("d2", "bridge", ("m000002-0", "m000001-0"), "c", "p", "r", 1, reason="untrue")
    for _ in range(2):
        journal.record_dreams("p2", "gen-0000", [own, bridge]).result(WAIT)
    assert journal.dreams("p2") == [own, bridge]
    with sqlite3.connect(journal.path) as db:
        hows = db.execute("SELECT memory, how FROM dream_memories WHERE dream = 2").fetchall()
    db.close()
    assert sorted(hows) == [("m000001-0", "bridge"), ("m000002-0", "own")]
    generation = Generation("gen-0001", "gen-0000", "p2", "abc", NOON, "activate")
    for _ in range(2):
        journal.record_generation(generation, ["d1"]).result(WAIT)
    assert journal.generation("gen-0001") == generation
    assert journal.generations() == [generation]
    assert journal.generation_dreams("gen-0001") == ["p2/d1"]
    with pytest.raises(Conflict):
        other = Generation("gen-0001", "gen-0000", "p2", "other", NOON)
        journal.record_generation(other, []).result(WAIT)
    journal.open_night(night("p3")).result(WAIT)
    journal.record_dreams("p3", "gen-0001", [replace(own, claim="another")]).result(WAIT)
    later = Generation("gen-0002", "gen-0001", "p3", "def", NOON)
    journal.record_generation(later, ["d1", "p2/d2"]).result(WAIT)
    assert journal.generation_dreams("gen-0002") == ["p2/d2", "p3/d1"]
    assert [dream.claim for dream in journal.dreams("p3")] == ["another"]
    journal.check()


def test_what_names_nothing_is_not_kept(journal: Journal) -> None:
    journal.open_night(night("p1")).result(WAIT)
    dream = Dream("d1", "question", ("m000009-0",), "c", "p", "r", 0)
    with pytest.raises(NotFound, match="memory 'm000009-0'"):
        journal.record_dreams("p1", "gen-0000", [dream]).result(WAIT)
    with pytest.raises(NotFound, match="dream 'd1'"):
        journal.record_generation(Generation("gen-0001", None, "p1", None, NOON), ["d1"]).result(WAIT)
    assert journal.dreams("p1") == []
    assert journal.generations() == []
    journal.check()


def test_activations_are_newest_first(journal: Journal) -> None:
    for n in range(3):
        journal.record_activation(f"gen-{n:04}", NOON + timedelta(days=n), "night").result(WAIT)
    assert [a.generation for a in journal.activations(2)] == ["gen-0002", "gen-0001"]
    assert journal.activations()[-1] == ("gen-0000", NOON, "night")


# Any order of doing things -----------------------------------------------------------------------------


class AnyDay(RuleBasedStateMachine):
    """The journal against a list and two sets, with restarts in between."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "journal.db"
        self.journal = Journal.open(self.path)
        self.receipts: list[Receipt] = []
        self.texts: list[str] = []
        self.keys: dict[str, int] = {}
        self.encoded: set[int] = set()

    @rule(texts=st.lists(st.text(alphabet=st.characters(codec="utf-8"), min_size=1), min_size=1, max_size=4))
    def append(self, texts: list[str]) -> None:
        for future, text in [(self.journal.append(draft(text)), text) for text in texts]:
            self.receipts.append(future.result(WAIT))
            self.texts.append(text)

    @rule(key=st.sampled_from("abc"), text=st.sampled_from("xy"))
    def append_with_key(self, key: str, text: str) -> None:
        future = self.journal.append(draft(text, key=key))
        if key not in self.keys:
            self.keys[key] = len(self.receipts)
            self.receipts.append(future.result(WAIT))
            self.texts.append(text)
        elif self.texts[self.keys[key]] == text:
            assert future.result(WAIT).id == self.receipts[self.keys[key]].id
        else:
            assert isinstance(future.exception(WAIT), Conflict)

    @rule(position=st.integers(1, 12))
    def encode(self, position: int) -> None:
        future = self.journal.encode(position, [(memory(position), np.ones(2, dtype=np.float32))], "e1")
        if position <= len(self.receipts):
            future.result(WAIT)
            self.encoded.add(position)
        else:
            assert isinstance(future.exception(WAIT), NotFound)

    @rule()
    def restart(self) -> None:
        self.journal.close()
        self.journal = Journal.open(self.path)

    @invariant()
    def all_is_there(self) -> None:
        found = self.journal.interactions(limit=1_000)
        assert [(i.id, i.position) for i in found] == [(r.id, r.position) for r in self.receipts]
        assert [i.position for i in found] == list(range(1, len(found) + 1))
        assert [i.draft.messages[0].content for i in found] == self.texts
        waiting = {i.position for i in self.journal.unencoded(1_000)}
        assert waiting == set(range(1, len(found) + 1)) - self.encoded
        assert {m.interactions[0] for m in self.journal.waiting()} == self.encoded
        assert len(self.journal.vectors("e1")[0]) == len(self.encoded)

    def teardown(self) -> None:
        if hasattr(self, "journal"):
            self.journal.close()
            self.folder.cleanup()


TestAnyDay = AnyDay.TestCase
TestAnyDay.settings = settings(
    max_examples=15, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)
