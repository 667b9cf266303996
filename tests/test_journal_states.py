"""The journal in any order of events, crashes included, against a model of it in lists and dictionaries."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ada_memory.errors import AdaError, Conflict, NotFound
from ada_memory.hippocampus.journal import Journal
from ada_memory.records import (
    Draft,
    Dream,
    Generation,
    Memory,
    Message,
    NightRecord,
    Receipt,
    Salience,
    StageName,
    StageRecord,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
WAIT = 30
ENDED = ("learned", "skipped", "superseded")

Posts = st.lists(
    st.tuples(
        st.text(alphabet=st.characters(codec="utf-8"), min_size=1, max_size=20) | st.sampled_from("xy"),
        st.sampled_from(["app", "other"]), st.none() | st.sampled_from("abc"),
    ),
    min_size=1, max_size=8,
)  # fmt: skip
Pick = st.integers(0, 1000)
Nights = st.sampled_from(["p1", "p2", "2026-03-01"])


@dataclass
class Model:
    """What the journal should hold."""

    receipts: list[Receipt] = field(default_factory=list)
    drafts: list[Draft] = field(default_factory=list)
    keys: dict[tuple[str, str], int] = field(default_factory=dict)
    encoded: set[int] = field(default_factory=set)
    memories: list[Memory] = field(default_factory=list)
    nights: list[NightRecord] = field(default_factory=list)
    stages: dict[str, list[StageRecord]] = field(default_factory=dict)
    dreams: dict[str, list[Dream]] = field(default_factory=dict)
    settled: dict[tuple[str, str], str] = field(default_factory=dict)
    generations: dict[str, Generation] = field(default_factory=dict)
    taught: dict[str, set[str]] = field(default_factory=dict)
    activations: list[str] = field(default_factory=list)

    def expect(self, draft: Draft) -> Receipt | type[AdaError] | None:
        """What an append of this draft must come to: an old receipt, an error, or (None) a new receipt."""
        if draft.key is None or (first := self.keys.get((draft.app, draft.key))) is None:
            return None
        same = self.drafts[first].messages == draft.messages
        return replace(self.receipts[first], duplicate=True) if same else Conflict

    def keep(self, draft: Draft, receipt: Receipt) -> None:
        """A new interaction."""
        if draft.key is not None:
            self.keys[draft.app, draft.key] = len(self.drafts)
        self.receipts.append(receipt)
        self.drafts.append(draft)

    def open(self, memory: Memory, outcomes: Sequence[str]) -> bool:
        """Whether a memory is for the weights, and none of these outcomes is its."""
        mine = [outcome for (_, name), outcome in self.settled.items() if name == memory.id]
        return memory.route == "weights" and "no-train" not in memory.tags and not {*mine} & {*outcomes}


class AnyLife(RuleBasedStateMachine):
    """Writes of every kind, in any order, with ends and crashes of the process in between."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ada"))
        self.lives = 0
        self.path = self.folder / "0" / "journal.db"
        self.journal = Journal.open(self.path)
        self.model = Model()
        self.append([("One.", "app", None), ("Two.", "app", "a"), ("Three.", "app", None)])
        for number in range(2):
            self.encode(number, "weights", (), 2)
        self.open_night("p1", 3)

    # By day ----------------------------------------------------------------------------------------------

    @rule(posts=Posts)
    def append(self, posts: list[tuple[str, str, str | None]]) -> None:
        """One after the other, or as a batch: queued together, awaited together."""
        self.settle_posts(*self.queue(posts))

    def queue(self, posts: list[tuple[str, str, str | None]]) -> tuple[list[Draft], list[Future[Receipt]]]:
        drafts = [
            Draft(messages=(Message("user", text),), at=NOON, app=app, key=key) for text, app, key in posts
        ]
        return drafts, [self.journal.append(draft) for draft in drafts]

    def settle_posts(self, drafts: list[Draft], futures: list[Future[Receipt]]) -> None:
        for draft, future in zip(drafts, futures, strict=True):
            expected = self.model.expect(draft)
            if isinstance(expected, type):
                assert isinstance(future.exception(WAIT), expected)
            elif expected is not None:
                assert future.result(WAIT) == expected
            else:
                receipt = future.result(WAIT)
                assert (receipt.position, receipt.duplicate) == (len(self.model.receipts) + 1, False)
                self.model.keep(draft, receipt)

    @rule(
        number=Pick, route=st.sampled_from(["weights", "weights", "verbatim", "ignored"]),
        tags=st.sampled_from([(), (), ("no-train",), ("later", "no-recall")]), count=st.integers(0, 3),
    )  # fmt: skip
    def encode(self, number: int, route: Any, tags: tuple[str, ...], count: int) -> None:
        position = number % (len(self.model.receipts) + 2) + 1
        names = [f"m{position:06}-{ordinal}" for ordinal in range(count)]
        made = [
            Memory(name, f"text {name}", "user", NOON, route, Salience(0.5), (position,), tags)
            for name in names
        ]
        vector = np.ones(3, dtype=np.float32)
        future = self.journal.encode(position, [(memory, vector) for memory in made], "e1")
        if position > len(self.model.receipts):
            assert isinstance(future.exception(WAIT), NotFound)
            return
        future.result(WAIT)
        if position not in self.model.encoded:
            self.model.encoded.add(position)
            self.model.memories += made

    # By night --------------------------------------------------------------------------------------------

    @rule(name=Nights, upto=st.integers(0, 9))
    def open_night(self, name: str, upto: int) -> None:
        night = NightRecord(name, "manual", NOON, upto, "gen-0000", 7)
        there = [one for one in self.model.nights if one.id == name]
        assert self.journal.open_night(night).result(WAIT) == (there[0] if there else night)
        if not there:
            self.model.nights.append(night)

    def known(self, night: str, future: Future[None]) -> bool:
        """Whether a night is there; if not, the write must have failed."""
        if night in {one.id for one in self.model.nights}:
            return True
        assert isinstance(future.exception(WAIT), NotFound)
        return False

    @rule(night=Nights, name=st.sampled_from(["gather", "train", "report"]), minutes=st.integers(0, 99))
    def finish_stage(self, night: str, name: StageName, minutes: int) -> None:
        stage = StageRecord(night, name, "done", "", NOON, NOON + timedelta(minutes=minutes), {"n": minutes})
        future = self.journal.record_stage(stage)
        if self.known(night, future):
            future.result(WAIT)
            rows = self.model.stages.setdefault(night, [])
            if name not in {row.name for row in rows}:
                rows.append(stage)

    @rule(night=Nights, numbers=st.lists(Pick, min_size=1, max_size=3), unknown=st.booleans(), words=Pick)
    def dream(self, night: str, numbers: list[int], unknown: bool, words: int) -> None:
        """Several dreams in one write; one that names no memory undoes them all."""
        names = [memory.id for memory in self.model.memories] or ["none"]
        dreams = [
            Dream(
                id=f"d{number % 7}", kind="bridge", memories=tuple({names[number % len(names)], names[0]}),
                claim="c", prompt=f"p{words}", reply="r", cycle=number % 3, accepted=bool(number % 2),
            )
            for number in numbers
        ]  # fmt: skip
        if unknown:
            dreams.append(replace(dreams[0], id="d9", memories=("nobody",)))
        future = self.journal.record_dreams(night, "gen-0000", dreams)
        if not self.known(night, future):
            return
        if unknown or not self.model.memories:
            fresh = [dream for dream in dreams if dream.id not in {d.id for d in self.dreamt(night)}]
            if fresh:
                assert isinstance(future.exception(WAIT), NotFound)
                return
        future.result(WAIT)
        for dream in dreams:
            if dream.id not in {there.id for there in self.dreamt(night)}:
                self.dreamt(night).append(dream)

    def dreamt(self, night: str) -> list[Dream]:
        return self.model.dreams.setdefault(night, [])

    @precondition(lambda self: self.model.memories)
    @rule(night=Nights, numbers=st.lists(Pick, max_size=4), outcome=st.sampled_from([*ENDED, "set_aside"]))
    def settle(self, night: str, numbers: list[int], outcome: Any) -> None:
        names = {self.model.memories[number % len(self.model.memories)].id for number in numbers}
        future = self.journal.settle(night, {name: (outcome, "why") for name in names})
        if self.known(night, future):
            future.result(WAIT)
            for name in names:
                self.model.settled.setdefault((night, name), outcome)

    @rule(number=st.integers(1, 3), night=Nights, adapter=st.sampled_from(["aa", "aa", "bb"]), dreams=Pick)
    def generation(self, number: int, night: str, adapter: str, dreams: int) -> None:
        there = self.dreamt(night)
        taught = {dream.id for dream in there[: dreams % (len(there) + 1)]}
        born = Generation(f"gen-{number:04}", "gen-0000", night, adapter, NOON, "activate")
        future = self.journal.record_generation(born, sorted(taught))
        first = self.model.generations.get(born.id)
        if first is not None and first.adapter != adapter:
            assert isinstance(future.exception(WAIT), Conflict)
        elif self.known(night, future):
            future.result(WAIT)
            self.model.generations.setdefault(born.id, born)
            mine = self.model.taught.setdefault(born.id, set())
            mine |= {f"{night}/{dream}" for dream in taught}

    @rule(number=st.integers(0, 3))
    def activate(self, number: int) -> None:
        self.journal.record_activation(f"gen-{number:04}", NOON, "night").result(WAIT)
        self.model.activations.append(f"gen-{number:04}")

    # Ends ------------------------------------------------------------------------------------------------

    @rule()
    def reopen(self) -> None:
        self.journal.close()
        self.journal = Journal.open(self.path)
        self.journal.check()

    @rule(posts=Posts, acknowledged=st.integers(0, 8))
    def crash(self, posts: list[tuple[str, str, str | None]], acknowledged: int) -> None:
        """The files as they lie at some moment under a stream of posts are all that the next life has."""
        drafts, futures = self.queue(posts)
        for future in futures[:acknowledged]:
            future.exception(WAIT)
        done = [future.done() for future in futures]
        image = self.picture()
        before = len(self.model.receipts)
        self.settle_posts(drafts, futures)
        self.journal.close()
        self.journal, self.path = Journal.open(image), image
        self.journal.check()
        there = self.journal.position()
        promised = [
            future.result().position
            for future, was in zip(futures, done, strict=True)
            if was and future.exception() is None
        ]
        assert max([before, *promised]) <= there <= len(self.model.receipts)
        del self.model.receipts[there:], self.model.drafts[there:]
        self.model.keys = {key: index for key, index in self.model.keys.items() if index < there}

    def picture(self) -> Path:
        """A copy of the database and its log, made while others write.

        A reader keeps SQLite from starting the log anew meanwhile: that could not happen between two bytes
        of one moment either.
        """
        self.lives += 1
        image = self.folder / str(self.lives) / "journal.db"
        image.parent.mkdir()
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM interactions").fetchone()
            shutil.copy(self.path, image)
            log = self.path.with_name(f"{self.path.name}-wal")
            if log.exists():
                shutil.copy(log, image.with_name(f"{image.name}-wal"))
        return image

    # What must hold --------------------------------------------------------------------------------------

    @invariant()
    def every_interaction_is_there_once_in_order(self) -> None:
        found = self.journal.interactions(limit=10_000)
        assert [(i.id, i.position) for i in found] == [(r.id, r.position) for r in self.model.receipts]
        assert [i.position for i in found] == list(range(1, len(found) + 1))
        assert [i.draft for i in found] == self.model.drafts
        ids = [i.id for i in found]
        assert ids == sorted(set(ids))
        every = set(range(1, len(found) + 1))
        assert [i.position for i in self.journal.unencoded(10_000)] == sorted(every - self.model.encoded)

    @invariant()
    def memories_wait_until_they_are_settled(self) -> None:
        model = self.model
        assert self.journal.memories() == model.memories
        waiting = [memory for memory in model.memories if model.open(memory, ENDED)]
        assert self.journal.waiting() == waiting
        counted = [memory for memory in model.memories if model.open(memory, [*ENDED, "set_aside"])]
        assert self.journal.waiting_count() == len(counted)
        recallable = [memory.id for memory in model.memories if "no-recall" not in memory.tags]
        assert self.journal.vectors("e1")[0] == recallable
        latest = {name: outcome for (_, name), outcome in model.settled.items()}
        assert {name: row.outcome for name, row in self.journal.settlements().items()} == latest

    @invariant()
    def nights_and_generations_are_as_written(self) -> None:
        model, journal = self.model, self.journal
        assert journal.nights(100) == model.nights[::-1]
        for night in model.nights:
            assert journal.stages(night.id) == model.stages.get(night.id, [])
            assert journal.dreams(night.id) == model.dreams.get(night.id, [])
        open_ = [
            night for night in model.nights
            if "report" not in {row.name for row in model.stages.get(night.id, [])}
        ]  # fmt: skip
        assert journal.unfinished_night() == (open_[0] if open_ else None)
        assert journal.generations() == list(model.generations.values())
        for name in model.generations:
            assert set(journal.generation_dreams(name)) == model.taught[name]
        assert [a.generation for a in journal.activations(1000)] == model.activations[::-1]
        assert journal.counts() == {
            "interactions": len(model.receipts),
            "unencoded": len(model.receipts) - len(model.encoded),
            "memories": len(model.memories),
            "waiting": journal.waiting_count(),
            "dreams": sum(map(len, model.dreams.values())),
            "nights": len(model.nights),
            "generations": len(model.generations),
        }

    def teardown(self) -> None:
        if hasattr(self, "journal"):
            self.journal.check()
            self.journal.close()
            shutil.rmtree(self.folder)


TestAnyLife = AnyLife.TestCase
TestAnyLife.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
