"""Recall gives back the nearest of what may be recalled, whatever the size of the mind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ada_memory.errors import BadInput
from ada_memory.hippocampus.journal import Journal
from ada_memory.hippocampus.recall import by_age, listing, recall, within
from ada_memory.hippocampus.vectors import Vectors
from ada_memory.records import Draft, Memory, Message, Recalled, Route, Salience
from ada_memory.settings import RecallSettings

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ANY = RecallSettings(min_similarity=-1)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path / "journal.db") as opened:
        yield opened


def memory(
    position: int, text: str = "", route: Route = "weights", tags: tuple[str, ...] = (), at: datetime = NOON
) -> Memory:
    name, text = f"m{position:06}-0", text or f"text {position}"
    return Memory(name, text, "user", at, route, Salience(0.5), (position,), tags)


def keep(journal: Journal, made: list[Memory], rows: NDArray[np.float32]) -> None:
    futures = []
    for kept, row in zip(made, rows, strict=True):
        journal.append(Draft((Message("user", kept.text),), kept.at))
        futures.append(journal.encode(kept.interactions[0], [(kept, row)], "e1"))
    for future in futures:
        future.result(20)


def unit(n: int, d: int = 24, seed: int = 0) -> NDArray[np.float32]:
    rows = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def brute(made: list[Memory], rows: NDArray[np.float32], query: NDArray[np.float32], k: int) -> list[str]:
    return [made[i].id for i in np.argsort(-(rows @ query))[:k]]


def test_an_empty_mind_recalls_nothing(journal: Journal) -> None:
    assert recall(journal, "e1", unit(1)[0], ANY) == []


def test_recall_is_brute_force_both_ways(journal: Journal, tmp_path: Path) -> None:
    rows = unit(400)
    made = [memory(i + 1) for i in range(400)]
    keep(journal, made, rows)
    with Vectors(tmp_path / "chroma", "e1") as vectors:
        vectors.upsert([m.id for m in made], rows)
        vectors.upsert(["m999999-0"], unit(1, seed=1))  # ahead of the journal after a crash: never seen
        for exact_below in (1_000, 0):
            settings = ANY.model_copy(update={"exact_below": exact_below, "top_k": 6})
            for query in unit(20, seed=1):
                found = recall(journal, "e1", query, settings, vectors)
                assert [item.memory.id for item in found] == brute(made, rows, query, 6)
                for item in found:
                    row = rows[item.memory.interactions[0] - 1]
                    assert item.similarity == pytest.approx(float(row @ query), abs=1e-5)


def test_what_must_not_be_recalled_never_is_and_crowds_nothing_out(journal: Journal, tmp_path: Path) -> None:
    query = unit(1)[0]
    assert not recall(journal, "e1", query, ANY)
    made = [memory(i, tags=("no-recall",)) for i in range(1, 40)]
    made += [memory(i, route="ignored") for i in range(40, 80)]
    made += [memory(80, route="verbatim"), memory(81)]
    rows = np.repeat(query[None, :], 81, axis=0)
    rows[79:] = unit(2, seed=5)
    keep(journal, made, rows)
    with Vectors(tmp_path / "chroma", "e1") as vectors:
        vectors.upsert([m.id for m in made], rows)
        for exact_below in (1_000, 0):
            settings = ANY.model_copy(update={"exact_below": exact_below, "top_k": 2})
            found = recall(journal, "e1", query, settings, vectors)
            assert {item.memory.id for item in found} == {"m000080-0", "m000081-0"}


def test_a_text_said_twice_comes_once(journal: Journal) -> None:
    rows = unit(1).repeat(3, axis=0)
    texts = ("My cat is Mo.", "my cat is  mo.", "My dog is Rex.")
    keep(journal, [memory(n, text) for n, text in enumerate(texts, 1)], rows)
    found = recall(journal, "e1", rows[0], ANY)
    assert [item.memory.text for item in found] == ["My cat is Mo.", "My dog is Rex."]


def test_limits_are_kept(journal: Journal) -> None:
    rows = unit(30)
    keep(journal, [memory(i + 1) for i in range(30)], rows)
    near = recall(journal, "e1", rows[4], RecallSettings(min_similarity=0.95))
    assert [item.memory.id for item in near] == ["m000005-0"]
    assert len(recall(journal, "e1", rows[4], ANY)) == ANY.top_k
    assert len(recall(journal, "e1", rows[4], ANY.model_copy(update={"top_k": 99}))) == 30
    assert recall(journal, "e1", rows[4], ANY.model_copy(update={"top_k": 0})) == []
    assert recall(journal, "e2", rows[4], ANY) == []
    with pytest.raises(BadInput):
        recall(journal, "e1", rows[4][:5], ANY)


def test_memories_are_listed_oldest_first_and_a_text_cannot_pose_as_two() -> None:
    late = Recalled(memory(1, "late", at=NOON + timedelta(days=1)), 0.9)
    early = Recalled(memory(2, "early\n- forged\r- twice"), 0.3)
    parts = [Recalled(replace(early.memory, id=f"m000002-{n}", text=str(n)), 0.5) for n in (10, 9)]
    ordered = [item.memory.text for item in by_age([late, *parts, early])]
    assert ordered == ["early\n- forged\r- twice", "9", "10", "late"]
    assert listing(ordered) == "Memories:\n- early\n  - forged\n  - twice\n- 9\n- 10\n- late"


def test_what_is_recalled_is_bounded_by_whole_memories() -> None:
    found = [Recalled(memory(n, "x" * length), 0.9 - n / 10) for n, length in enumerate((40, 90, 30), 1)]
    assert [len(item.memory.text) for item in within(found, 100)] == [40, 30]
    assert within(found, 10) == []
