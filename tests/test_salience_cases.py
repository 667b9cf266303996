"""What is kept, where, and whether it is found again, on utterances of everyday life.

`salience_dev.jsonl` is what the rules were made with. `salience_held_out.jsonl` was written after the rules,
on other matters and in other words; no rule was made for a sentence of it, and none should be.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ada_memory.hippocampus.embedder import DEFAULT, Embedder, resolve
from ada_memory.hippocampus.encode import encode_batch
from ada_memory.hippocampus.journal import Journal
from ada_memory.hippocampus.recall import recall
from ada_memory.hippocampus.router import route
from ada_memory.hippocampus.salience import importance_of
from ada_memory.records import Draft, Memory, Message
from ada_memory.seedling import lessons, world
from ada_memory.seedling.relations import RELATIONS
from ada_memory.settings import RouterSettings, Settings

DATA = Path(__file__).parent / "data"
SETTINGS = Settings()
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LEAST = {
    "salience_dev": {"weights": 0.99, "verbatim": 0.99, "ignored": 0.99},
    "salience_held_out": {"weights": 0.95, "verbatim": 0.9, "ignored": 0.9},
}
"""Of each set: the least share of what belongs there that goes there."""


@cache
def cases(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text("utf-8").splitlines()]


def blind(texts: list[str]) -> NDArray[np.float32]:
    """Each text its own random direction: what is said counts by its form, for all is new."""
    rows = [np.random.default_rng(zlib.crc32(text.encode())).normal(size=384) for text in texts]
    return np.array([row / np.linalg.norm(row) for row in rows], dtype=np.float32)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path / "journal.db") as opened:
        yield opened


def tell(journal: Journal, said: Sequence[dict[str, Any]]) -> None:
    """Keep each case as an interaction of its own, in order."""
    drafts = [Draft((Message(case.get("role", "user"), case["text"]),), NOON) for case in said]
    for receipt in [journal.append(draft) for draft in drafts]:
        receipt.result(20)


def kept(journal: Journal) -> dict[int, list[Memory]]:
    """The memories of each interaction."""
    found: dict[int, list[Memory]] = {}
    for memory in journal.memories():
        found.setdefault(memory.interactions[0], []).append(memory)
    return found


@pytest.mark.parametrize("name", list(LEAST))
def test_what_matters_is_kept_and_small_talk_stays_out(journal: Journal, name: str) -> None:
    tell(journal, cases(name))
    while encode_batch(journal, blind, "e1", SETTINGS):
        pass
    by_position = kept(journal)
    right: dict[str, list[bool]] = {"weights": [], "verbatim": [], "ignored": []}
    wrong = []
    for position, case in enumerate(cases(name), start=1):
        for want, part in case.get("parts", [[case["want"], case.get("snippet", case["text"])]]):
            hit = any(m.route == want and part in m.text for m in by_position.get(position, []))
            right[want].append(hit)
            wrong += [] if hit else [(want, part)]
    for want, least in LEAST[name].items():
        assert sum(right[want]) >= least * len(right[want]), [part for other, part in wrong if other == want]


def test_what_was_posted_is_found_by_a_question_letter_by_letter(journal: Journal) -> None:
    model = Embedder(resolve(DEFAULT))
    tell(journal, [case for name in LEAST for case in cases(name)])
    while encode_batch(journal, model.encode, model.hash, SETTINGS):
        pass
    asked = [(name, case["ask"], case["snippet"]) for name in LEAST for case in cases(name) if "ask" in case]
    queries = model.encode([question for _, question, _ in asked])
    hits: dict[str, list[bool]] = {name: [] for name in LEAST}
    for (name, _, snippet), query in zip(asked, queries, strict=True):
        found = recall(journal, model.hash, query, SETTINGS.recall)
        hits[name].append(any(snippet in item.memory.text for item in found))
    assert sum(hits["salience_dev"]) >= len(hits["salience_dev"]) - 1
    assert sum(hits["salience_held_out"]) >= 0.9 * len(hits["salience_held_out"])


def test_the_seedlings_facts_and_wishes_are_learned_and_its_small_talk_is_not() -> None:
    rng = Random(3)
    said = [s for relation in RELATIONS for _ in range(3) for s in world.fact(rng, None, relation).says()]
    said += [text for _ in range(40) for text in world.wish(rng).says()]
    least = SETTINGS.salience.threshold
    assert [text for text in said if importance_of(text)[0] < 0.4] == []
    routes = {text: route(text, "chat", "user", RouterSettings())[0] for text in said}
    assert [text for text, where in routes.items() if where != "weights"] == []
    idle = {lessons.small_talk(rng) for _ in range(1_000)}
    assert [text for text in idle if importance_of(text)[0] >= least] == []
