"""The exam of the night's own tasks: what counts as right, and that the seedling passes its own."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from ada_memory.bench.trial_figures import BARS, DOES
from ada_memory.dream import craft
from ada_memory.dream.craft import TASKS, Item, Mark, finds, is_true, shares
from ada_memory.dream.prompts import Claim, extract, verify
from ada_memory.engines.engine import open_engine
from ada_memory.errors import BadInput
from ada_memory.seedling import craft as drawn
from ada_memory.settings import DreamSettings
from ada_memory.sovereign.bases import PACKAGE
from tests.fake_engine import FakeEngine

SETTINGS = DreamSettings()
TWO = Item("extract", ("Hi! Leo is seven. Call me Captain.",), facts=("leo seven",), wishes=("captain",))
LEO, CAPTAIN = Claim("Leo is seven."), Claim("Call me Captain.", wish=True)


@pytest.mark.parametrize(
    ("claims", "right"),
    [
        ((LEO, CAPTAIN), True),
        ((CAPTAIN, LEO), True),
        ((LEO,), False),
        ((), False),
        ((LEO, Claim("Call me Captain.")), False),
        ((LEO, CAPTAIN, Claim("Hi!")), False),
        ((Claim("Leo is eleven."), CAPTAIN), False),
    ],
)
def test_all_that_a_message_says_must_be_found_and_nothing_else(
    claims: tuple[Claim, ...], right: bool
) -> None:
    assert finds(TWO, claims) is right


def test_of_small_talk_nothing_may_be_found() -> None:
    empty = Item("extract", ("Hello there!",))
    assert finds(empty, ())
    assert not finds(empty, (Claim("Hello there!"),))


NURSE = Item(
    "dream", ("My sister Anna works as a nurse.",), asks=("sister|Anna",), says=("nurse",), hides=("nurse",)
)
TEACHER = Item("rewrite", NURSE.messages, prompt="?", reply="A teacher.", says=("nurse",), lacks=("teacher",))


@pytest.mark.parametrize(
    ("item", "reply", "right"),
    [
        (NURSE, "Q: What does Anna do?\nA: She is a Nurse.", True),
        (NURSE, "Q: What does my sister's job?\nA: nurse", True),
        (NURSE, "Q: What does Tom do?\nA: She is a nurse.", False),
        (NURSE, "Q: Is Anna a nurse?\nA: A nurse.", False),
        (NURSE, "Q: What does Anna do?\nA: She is a nursemaid.", False),
        (NURSE, "Q: What does Anna do?", False),
        (NURSE, "Anna is a nurse.", False),
        (TEACHER, "Q: And Anna?\nA: A nurse.", True),
        (TEACHER, "Q: And Anna?\nA: A nurse, no teacher.", False),
    ],
)
def test_a_sample_must_be_of_the_form_and_true(item: Item, reply: str, right: bool) -> None:
    assert is_true(item, reply) is right


def test_a_model_that_agrees_with_everything_judges_half_of_it_right() -> None:
    items = craft.read()
    judged = [item for item in items if item.task == "verify"]
    assert sum(item.right for item in judged) * 2 == len(judged)
    marks = craft.sit(FakeEngine(), judged, SETTINGS)
    assert shares(marks) == {"verify": 0.5}
    wise = {verify(i.messages, i.prompt, i.reply)[0].content: float(i.right) for i in judged}
    assert shares(craft.sit(FakeEngine(sure=lambda prompt: wise[prompt]), judged, SETTINGS)) == {"verify": 1}


def test_tasks_are_done_as_the_night_does_them() -> None:
    items = [TWO, NURSE, TEACHER]
    replies = {
        extract(TWO.messages[0])[
            0
        ].content: "- Fact: Leo is seven.\n- Wish: Call me Captain.\n- Fact: Leo dreams.",
        NURSE.chat()[0].content: "Q: Who is Anna?\nA: A nurse.",
    }
    marks = craft.sit(engine := FakeEngine(replies), items, SETTINGS)
    assert [mark.item for mark in marks] == items
    assert [mark.right for mark in marks] == [True, True, False], "what is not in the message is no claim"
    assert [s.temperature for s in engine.samplings] == [0, SETTINGS.temperature, 0]


def test_true_and_false_count_alike_however_many_there_are() -> None:
    yes, no = Item("verify", ("a",)), Item("verify", ("a",), right=False)
    marks = [Mark(yes, "1", True)] * 9 + [Mark(no, "1", False)]
    assert shares(marks) == {"verify": 0.5}


@pytest.mark.parametrize(
    "path", [craft.GENERAL, PACKAGE / "data" / craft.BESIDE], ids=["general", "seedling"]
)
def test_the_items_that_ship_are_whole(path: Path) -> None:
    items = craft.read(path)
    counts = Counter(item.task for item in items)
    assert counts.keys() == set(TASKS) == set(BARS) == set(DOES)
    assert counts["verify"] >= 40 and counts["extract"] >= 24 and counts["dream"] >= 24
    assert len({item.chat() for item in items}) == len(items), "no item twice"
    assert sum(not item.facts and not item.wishes for item in items if item.task == "extract") >= 3
    for task in ("verify", "supersede"):
        right = [item.right for item in items if item.task == task]
        assert abs(sum(right) / len(right) - 0.5) < 0.05
    for item in items:
        said = " ".join(item.messages)
        assert all(
            craft.holds(said, [word]) for words in (*item.facts, *item.wishes) for word in words.split()
        ) or (item.task == "dream"), item
        assert item.says or item.task not in ("dream", "rewrite"), item


def test_the_seedlings_items_are_those_of_the_recipe() -> None:
    rows = (PACKAGE / "data" / craft.BESIDE).read_text("utf-8").splitlines()
    assert [json.loads(row) for row in rows] == drawn.rows()


def test_a_model_may_bring_its_own_items(tmp_path: Path) -> None:
    assert craft.beside(tmp_path) == craft.GENERAL
    (tmp_path / craft.BESIDE).write_text("", "utf-8")
    assert craft.beside(tmp_path) == tmp_path / craft.BESIDE


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        '{"task": "extract", "messages": ["a"]}',
        '{"task": "sing", "messages": ["a"]}',
        '{"task": "verify", "messages": "a"}',
        '{"task": "verify", "messages": ["a"], "right": "yes"}',
        '{"task": "verify", "messages": ["a"], "colour": 1}',
    ],
)
def test_a_file_that_holds_no_such_items_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "craft.jsonl").write_text(text, "utf-8")
    with pytest.raises(BadInput):
        craft.read(tmp_path / "craft.jsonl")


def test_the_seedling_has_its_craft() -> None:
    items = [item for item in craft.read(PACKAGE / "data" / craft.BESIDE) if item.task != "dream"][::3]
    found = shares(craft.sit(open_engine("peft", PACKAGE / "model"), items, SETTINGS))
    assert min(found.values()) >= 0.8, found
