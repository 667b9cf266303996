"""From what was said to what is kept: one step for each interaction, once."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ada_memory.errors import WorkerDied
from ada_memory.hippocampus.embedder import DEFAULT, Embedder, resolve
from ada_memory.hippocampus.encode import encode_batch, memories_of
from ada_memory.hippocampus.journal import Journal
from ada_memory.hippocampus.recall import recall
from ada_memory.hippocampus.vectors import Vectors
from ada_memory.records import Draft, Interaction, Kind, Message, Role
from ada_memory.settings import SalienceSettings, Settings

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SETTINGS = Settings()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path / "journal.db") as opened:
        yield opened


@pytest.fixture
def vectors(tmp_path: Path) -> Iterator[Vectors]:
    with Vectors(tmp_path / "chroma", "e1") as opened:
        yield opened


def embed(texts: list[str]) -> NDArray[np.float32]:
    """Stands in for the worker: a text's own random direction."""
    rows = [np.random.default_rng(zlib.crc32(text.encode())).normal(size=16) for text in texts]
    return np.array([row / np.linalg.norm(row) for row in rows], dtype=np.float32)


def say(journal: Journal, *messages: Message, kind: Kind = "chat", tags: tuple[str, ...] = ()) -> None:
    journal.append(Draft(messages, NOON, kind=kind, tags=tags)).result(20)


def user(text: str) -> Message:
    return Message("user", text)


def test_who_may_leave_a_memory() -> None:
    everyone: tuple[Role, ...] = ("system", "user", "assistant", "tool", "thought")
    messages = (*(Message(role, f" {role} ") for role in everyone), Message("user", "  "))

    def roles(kind: Kind) -> list[Role]:
        found = memories_of(Interaction("i", 1, Draft(messages, NOON, kind=kind)), SETTINGS.router)
        return [role for _, role in found]

    assert roles("chat") == ["user", "tool", "thought"]
    assert roles("rag") == roles("code") == ["user", "assistant", "tool", "thought"]


def test_a_message_leaves_a_memory_for_each_thing_in_it(journal: Journal) -> None:
    code = "def area(r):\n    return 3.14 * r * r"
    say(
        journal, user(f"Good morning! I live in Lisbon. The map is at https://maps.example/7.\n\n{code}"),
        user("My cat is called Mo."),
    )
    assert encode_batch(journal, embed, "e1", SETTINGS) == 1
    kept = [(memory.id, memory.route, memory.text) for memory in journal.memories()]
    assert kept == [
        ("m000001-0", "weights", "Good morning! I live in Lisbon."),
        ("m000001-1", "verbatim", "The map is at https://maps.example/7."),
        ("m000001-2", "verbatim", code),
        ("m000001-3", "weights", "My cat is called Mo."),
    ]
    assert journal.memories()[1].salience.reasons["verbatim:address"] == 1


def test_what_a_tool_says_is_never_learned(journal: Journal) -> None:
    said = ("My cat is called Mo.", "OK", "Rain in Porto, 14 degrees until 18:00")
    say(journal, user("What is new?"), *(Message("tool", text) for text in said))
    encode_batch(journal, embed, "e1", SETTINGS)
    routes = [memory.route for memory in journal.memories()]
    assert routes == ["ignored", "verbatim", "ignored", "verbatim"]
    assert journal.waiting() == []


def test_a_long_paste_is_embedded_in_portions_and_found_anywhere(journal: Journal) -> None:
    lines = [f"The {n}th station is called Stop{n}, on the line to the sea and back." for n in range(1_500)]
    say(journal, user("\n".join(lines)))
    sizes: list[int] = []

    def count(texts: list[str]) -> NDArray[np.float32]:
        sizes.append(len(texts))
        return embed(texts)

    encode_batch(journal, count, "e1", SETTINGS)
    memories = journal.memories()
    assert sum(sizes) == len(memories)
    assert max(sizes) <= 256
    assert {memory.route for memory in memories} == {"verbatim"}
    assert "\n".join(memory.text for memory in memories).split() == "\n".join(lines).split()


def test_a_batch_is_weighed_routed_indexed_and_kept(journal: Journal, vectors: Vectors) -> None:
    say(journal, user("My cat is called Mo."), Message("assistant", "What a nice name."))
    say(journal, user("Thanks!"))
    say(journal, user("see https://example.org"), user("I live in Lisbon."), tags=("no-recall", "later"))
    say(journal, Message("assistant", "I am here."))
    assert encode_batch(journal, embed, "e1", SETTINGS, vectors) == 4
    assert encode_batch(journal, embed, "e1", SETTINGS, vectors) == 0
    kept = {memory.id: memory for memory in journal.memories()}
    assert {name: memory.route for name, memory in kept.items()} == {
        "m000001-0": "weights", "m000002-0": "ignored", "m000003-0": "verbatim", "m000003-1": "weights",
    }
    assert kept["m000003-1"].tags == ("no-recall", "later")
    assert kept["m000001-0"].interactions == (1,)
    assert kept["m000001-0"].at == NOON
    assert kept["m000001-0"].salience.reasons["own"] == 1
    assert vectors.count() == 1
    assert journal.vectors("e1")[0] == ["m000001-0", "m000002-0"]
    assert journal.vectors("e1")[1][0].tobytes() == embed(["My cat is called Mo."])[0].tobytes()
    assert journal.unencoded(10) == []


def test_batches_go_on_where_the_last_one_ended(journal: Journal) -> None:
    for n in range(7):
        say(journal, user(f"My cat number {n} is called Mo."))
    assert [encode_batch(journal, embed, "e1", SETTINGS, limit=3) for _ in range(4)] == [3, 3, 1, 0]
    assert [memory.interactions[0] for memory in journal.memories()] == list(range(1, 8))


@pytest.mark.parametrize("exact_below", [50_000, 0])
def test_novelty_sees_the_batch_and_what_came_before(
    journal: Journal, vectors: Vectors, exact_below: int
) -> None:
    settings = Settings(recall=SETTINGS.recall.model_copy(update={"exact_below": exact_below}))
    texts = ["My cat is called Mo.", "My cat is called Mo.", "My dog is called Rex."]
    for text in texts:
        say(journal, user(text))
    encode_batch(journal, embed, "e1", settings, vectors)
    say(journal, user(texts[2]))
    encode_batch(journal, embed, "e1", settings, vectors)
    novelty = [memory.salience.reasons["novelty"] for memory in journal.memories()]
    assert novelty[0] == 1
    assert novelty[1] == pytest.approx(0, abs=1e-4)
    assert novelty[2] > 0.2
    assert novelty[3] == pytest.approx(0, abs=1e-4)


def test_the_threshold_of_the_settings_counts(journal: Journal) -> None:
    say(journal, user("Thanks!"))
    say(journal, user("My cat is called Mo."))
    high = Settings(salience=SalienceSettings(threshold=0.99))
    assert encode_batch(journal, embed, "e1", high) == 2
    assert [memory.route for memory in journal.memories()] == ["ignored", "ignored"]


def test_a_worker_that_dies_leaves_everything_for_the_next_time(journal: Journal, vectors: Vectors) -> None:
    def dies(_: list[str]) -> NDArray[np.float32]:
        raise WorkerDied("the embed worker died")

    say(journal, user("My cat is called Mo."))
    with pytest.raises(WorkerDied):
        encode_batch(journal, dies, "e1", SETTINGS, vectors)
    assert (journal.memories(), vectors.count()) == ([], 0)
    assert encode_batch(journal, embed, "e1", SETTINGS, vectors) == 1


def test_an_index_ahead_of_the_journal_is_caught_up_with(journal: Journal, vectors: Vectors) -> None:
    say(journal, user("My cat is called Mo."))
    vectors.upsert(["m000001-0"], embed(["something else"]))  # a crash came before the journal's commit
    assert encode_batch(journal, embed, "e1", SETTINGS, vectors) == 1
    assert vectors.count() == 1
    assert vectors.query(embed(["My cat is called Mo."])[0], 1)[0][1] == pytest.approx(1, abs=1e-5)


def test_what_was_said_is_recalled_by_its_meaning(journal: Journal, tmp_path: Path) -> None:
    model = Embedder(resolve(DEFAULT))
    for text in (
        "My sister Ana lives in Porto.", "Thanks!", "I am allergic to peanuts.", "Our car is a blue van.",
        "Where does my sister live?",
    ):
        say(journal, user(text))
    with Vectors(tmp_path / "index", model.hash) as index:
        assert encode_batch(journal, model.encode, model.hash, SETTINGS, index) == 5
        for question, answer in (
            ("Where does my sister live?", "My sister Ana lives in Porto."),
            ("What food must I not eat?", "I am allergic to peanuts."),
        ):
            query = model.encode([question])[0]
            found = recall(journal, model.hash, query, SETTINGS.recall, index)
            assert found[0].memory.text == answer


def test_what_always_fails_is_passed_over(journal: Journal) -> None:
    for text in ("My cat is called Mo.", "My dog is called Rex.", "I live in Lisbon."):
        say(journal, user(text))

    def chokes(texts: list[str]) -> NDArray[np.float32]:
        if any("Rex" in text for text in texts):
            raise ValueError("this text cannot be embedded")
        return embed(texts)

    skip: frozenset[int] = frozenset()
    while waiting := journal.unencoded(1, skip):
        try:
            encode_batch(journal, chokes, "e1", SETTINGS, limit=1, skip=skip)
        except ValueError:
            skip |= {waiting[0].position}
    assert skip == {2}
    assert [memory.interactions for memory in journal.memories()] == [(1,), (3,)]
    assert [left.position for left in journal.unencoded()] == [2]
    assert encode_batch(journal, embed, "e1", SETTINGS) == 1
