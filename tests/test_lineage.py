"""The rows that tell what came of what: dreams and their readers, datasets, answers; found without a scan."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ada_memory.circadian.bundle import dream_from
from ada_memory.errors import NotFound
from ada_memory.forge import dataset
from ada_memory.hippocampus.journal import Journal
from ada_memory.hippocampus.migrations import MIGRATIONS, migrate
from ada_memory.records import (
    Answer,
    Draft,
    Dream,
    Generation,
    Memory,
    Message,
    NightRecord,
    Override,
    Read,
    Salience,
    Sample,
)
from ada_memory.settings import ForgeSettings

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
WAIT = 20
FIRST, SECOND = "m000001-0", "m000002-0"


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path / "journal.db") as made:
        fill(made)
        yield made


def fill(journal: Journal) -> None:
    """Two memories of two interactions, and two open nights."""
    for position, text in ((1, "My cat is called Miso."), (2, "My cat is called Nori.")):
        journal.append(Draft((Message("user", text),), NOON)).result(WAIT)
        memory = Memory(f"m{position:06}-0", text, "user", NOON, "weights", Salience(0.6), (position,))
        journal.encode(position, [(memory, None)], "none").result(WAIT)
    for name in ("p1", "p2"):
        journal.open_night(NightRecord(name, "manual", NOON, 2, "gen-0000", 1)).result(WAIT)


def dream(name: str = "d1", memories: tuple[str, ...] = (FIRST,), **more: Any) -> Dream:
    made = Dream(name, "question", memories, "c", f"What of {name}?", "Miso.", 0, score=0.9, accepted=True)
    return replace(made, **more)


# Dreams and their readers -----------------------------------------------------------------------------


def test_a_dream_reads_one_memory_in_several_ways(journal: Journal) -> None:
    reads = (Read(FIRST, "rewriter"), Read(FIRST, "verifier"), Read(SECOND, "verifier"))
    bridge = dream(memories=(FIRST, SECOND), reads=(*reads, Read(FIRST, "verifier")))
    for _ in range(2):
        journal.record_dreams("p1", "gen-0000", [bridge]).result(WAIT)
    assert journal.dreams("p1") == [replace(bridge, reads=reads)], "each reader once, also when repeated"
    assert journal.dream_counts(FIRST) == {"own": 1, "rewriter": 1, "verifier": 1}
    assert journal.dream_counts(SECOND) == {"bridge": 1, "verifier": 1}
    total, [found] = journal.dreams_of(FIRST, 10)
    assert (total, found.night, found.generation) == (1, "p1", "gen-0000")
    assert set(found.how) == {"own", "rewriter", "verifier"} and found.dream.memories == (FIRST, SECOND)
    journal.check()


def test_dreams_of_an_older_folder_load_without_readers() -> None:
    row = asdict(dream(memories=(FIRST, SECOND), reads=(Read(FIRST, "verifier"),)))
    assert dream_from(json.loads(json.dumps(row))) == dream_from(row)
    del row["reads"]
    assert dream_from(row) == dream(memories=(FIRST, SECOND))


def test_what_a_newer_memory_overrides_is_kept_with_its_claim(journal: Journal) -> None:
    override = Override(FIRST, "My cat is called Miso.", SECOND)
    for _ in range(2):
        journal.record_dreams("p1", "gen-0000", [], [override]).result(WAIT)
    assert journal.overrides(FIRST) == journal.overrides(SECOND) == [("p1", override)]
    with pytest.raises(NotFound, match="m000009-0"):
        journal.record_dreams("p1", "gen-0000", [], [Override(FIRST, "c", "m000009-0")]).result(WAIT)


# Datasets ---------------------------------------------------------------------------------------------


def test_rows_of_a_dataset_know_their_dream(tmp_path: Path) -> None:
    made = [dream(f"d{n}", (f"m{n // 8}",), prompt=f"Question {n}?", reply=f"Answer {n}.") for n in range(24)]
    twin = dream("twin", ("m9",), prompt="question 1", reply="answer 1")
    core = [Sample((Message("user", "Who?"), Message("assistant", "Ada.")), "core", kind="identity")]
    built = dataset.build([*made, twin], {}, core, ForgeSettings(core_share=0.2), frozenset(), 1)
    dataset.write(built, tmp_path / "dataset")
    read = dataset.read(tmp_path / "dataset")
    prompts = {one.id: one.prompt for one in made}
    new = [row for row in read.train if row.source == "new"]
    assert all(
        row.messages[0].content == prompts[row.dream]
        for row in (*new, *read.stop)
        if row.kind != dataset.CLIPPED
    )
    assert all(row.messages[0].content.rstrip("?") in prompts[row.dream] for row in new)
    train, stop = {row.dream for row in new}, {row.dream for row in read.stop}
    assert train.isdisjoint(stop) and train | stop == prompts.keys() and stop
    assert {row.dream for row in (*read.train, *read.anchors) if row.source == "core"} == {""}
    assert read == built


def test_a_generation_knows_what_trained_it_and_what_stopped_it(journal: Journal) -> None:
    made = [dream("d1"), dream("d2", kind="statement"), dream("d3"), dream("d4", (SECOND, FIRST))]
    journal.record_dreams("p1", "gen-0000", [*made, dream("d5")]).result(WAIT)
    born = Generation("gen-0001", "gen-0000", "p1", "abc", NOON, "activate")
    for _ in range(2):
        journal.record_generation(born, ["d1", "d2", "d4"], ["d3"]).result(WAIT)
    kinds = journal.taught_kinds("gen-0001")
    assert kinds == {"train": {"question": 2, "statement": 1}, "stop": {"question": 1}}
    assert [(row.memory, row.train, row.stop, row.own) for row in journal.taught("gen-0001")] == [
        (FIRST, 3, 1, True),
        (SECOND, 1, 0, True),
    ]
    assert [(to.generation, to.train, to.stop) for to in journal.taught_to(FIRST)] == [("gen-0001", 3, 1)]
    turns = [one.dream.id for one in journal.taught_dreams("gen-0001", 2)]
    assert turns == ["d1", "d4"], "one of each memory before the second of any"
    assert journal.dream("p1", "d3")[1] == [("gen-0001", "stop")]
    assert journal.dream("p1", "d5")[1] == []
    journal.check()


# Answers ----------------------------------------------------------------------------------------------


def turn(answer: Answer | None, key: str | None = None) -> Draft:
    said = (Message("user", "What is my cat called?"), Message("assistant", "Nori."))
    return Draft(said, NOON, key=key, answer=answer)


def test_an_answer_is_kept_with_the_turn_that_holds_it(journal: Journal) -> None:
    answer = Answer("chatcmpl-1", "gen-0001", (SECOND, FIRST))
    receipt = journal.append(turn(answer)).result(WAIT)
    assert journal.interaction(receipt.id).draft == turn(answer)
    assert journal.interactions(0, 1)[0].draft.answer is None
    found = journal.answer_at(receipt.position)
    assert found is not None
    assert (found.id, found.generation, found.interaction) == ("chatcmpl-1", "gen-0001", receipt.id)
    assert found.asked == "What is my cat called?"
    assert journal.answers(memory=FIRST, limit=5) == (1, [found])
    assert journal.answers(generation="gen-0001", limit=5) == (1, [found])
    assert journal.answers(generation="gen-0002", limit=5) == (0, [])
    journal.check()


def test_a_turn_that_comes_twice_has_one_answer(journal: Journal) -> None:
    first = journal.append(turn(Answer("chatcmpl-1", "gen-0001"), key="k")).result(WAIT)
    again = journal.append(turn(Answer("chatcmpl-2", "gen-0002"), key="k")).result(WAIT)
    assert again.duplicate and again.position == first.position
    assert journal.starting_with("answers", "chatcmpl-") == [("chatcmpl-1", first.position)]


def test_a_memory_that_is_gone_does_not_hold_up_a_turn(journal: Journal) -> None:
    receipt = journal.append(turn(Answer("chatcmpl-1", "gen-0001", ("m000009-0", FIRST)))).result(WAIT)
    kept = journal.interaction(receipt.id).draft.answer
    assert kept is not None and kept.memories == (FIRST,)
    position = journal.position()
    with pytest.raises(Exception, match="UNIQUE"):
        journal.append(turn(Answer("chatcmpl-1", "gen-0001"))).result(WAIT)
    assert journal.position() == position, "turn and answer are kept together or not at all"


# The file ---------------------------------------------------------------------------------------------


def test_a_journal_of_before_is_carried_over(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with Journal.open(path) as journal:
        fill(journal)
    path.unlink()
    db = sqlite3.connect(path, isolation_level=None)
    migrate(db, MIGRATIONS[:4])
    db.executescript(
        """
        INSERT INTO interactions (id, app, session, kind, at, tags) VALUES ('i', 'a', 's', 'chat', '', '[]');
        INSERT INTO memories (id, text, role, at, route, salience, reasons, tags)
            VALUES ('m000001-0', 'text', 'user', '2026-03-01T12:00:00+00:00', 'weights', 1, '{}', '[]');
        INSERT INTO nights (id, kind, opened_at, upto, parent, seed)
            VALUES ('p1', 'manual', '', 1, 'gen-0000', 1);
        INSERT INTO dreams VALUES (1, 'd1', 'p1', 'gen-0000', 'rule', 'c', 'p', 'r', 0, 0, 1.0, 1, '');
        INSERT INTO dream_memories VALUES (1, 0, 'm000001-0', 'own');
        INSERT INTO generations
            VALUES (1, 'gen-0001', 'gen-0000', 'p1', 'x', '2026-03-01T12:00:00+00:00', NULL);
        INSERT INTO generation_dreams VALUES ('gen-0001', 1);
        """
    )
    db.close()
    with Journal.open(path) as journal:
        assert journal.dreams("p1") == [Dream("d1", "rule", (FIRST,), "c", "p", "r", 0, 0, 1.0, True)]
        assert journal.taught_kinds("gen-0001")["train"] == {"rule": 1}
        assert [to.generation for to in journal.taught_to(FIRST)] == ["gen-0001"]
        journal.check()


class Explained(Journal):
    """A journal that keeps how SQLite means to answer each question of a walk."""

    plans: list[str]

    def _all(self, query: str, *values: object) -> list[Any]:
        with self._read() as db:
            self.plans += [str(row[3]) for row in db.execute(f"EXPLAIN QUERY PLAN {query}", values)]
        return super()._all(query, *values)


def test_no_walk_reads_a_whole_table(tmp_path: Path) -> None:
    with Explained.open(tmp_path / "journal.db") as journal:
        journal.plans = []
        fill(journal)
        journal.record_dreams("p1", "gen-0000", [dream()]).result(WAIT)
        journal.record_generation(Generation("gen-0001", None, "p1", "x", NOON), ["d1"]).result(WAIT)
        journal.append(turn(Answer("chatcmpl-1", "gen-0001", (FIRST,)))).result(WAIT)
        journal.taught("gen-0001")
        journal.taught_kinds("gen-0001")
        journal.taught_dreams("gen-0001", 5)
        journal.taught_to(FIRST)
        journal.became(night="p1")
        journal.became(memories=[FIRST])
        journal.overrides(FIRST)
        journal.dream_counts(FIRST)
        journal.dreams_of(FIRST, 5)
        journal.dreamt_by("p1")
        journal.dream("p1", "d1")
        journal.sources([FIRST])
        journal.made_of(1)
        journal.answers(generation="gen-0001", limit=5)
        journal.answers(memory=FIRST, limit=5)
        journal.answer_at(3)
        journal.starting_with("interactions", "0")
        journal.starting_with("answers", "chatcmpl-")
        journal.vector_of(FIRST)
        whole = [plan for plan in journal.plans if plan.startswith("SCAN")]
    few = ("SCAN json_each", "SCAN (subquery")  # what was asked for, and what an index has found already
    assert journal.plans and [plan for plan in whole if not plan.startswith(few)] == []
