"""The health check: what counts as right, how two models are compared, and that the verdict fails closed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ada_memory.errors import BadInput
from ada_memory.records import Message, Sample
from ada_memory.settings import TopologySettings
from ada_memory.topology import exam, survey
from ada_memory.topology.exam import Question
from ada_memory.topology.verdict import judge
from tests.fake_engine import FakeEngine


def question(
    asked: str, answer: str, wrong: tuple[str, ...] = (), category: str = "facts", key: str = ""
) -> Question:
    return Question(category, key or asked, (Message("user", asked),), answer, wrong)


# ---- what is right --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "wrong", "reply", "right"),
    [
        ("Bram", (), "Bram.", True),
        ("Bram.", (), "your dog is called  BRAM!", True),
        ("Bram", (), "Bramble.", False),
        ("Bram", (), "Abram.", False),
        ("Bram", (), "Bram's.", False),
        ("Bram", (), "Bram-bo.", False),
        ("Bram", (), "", False),
        ("Bram", ("Rex",), "Bram or Rex.", False),
        ("Bram", ("Rex",), "Rex, and not Bram.", False),
        ("Bram", ("Rex",), "Bram the Rexine.", True),
        ("Bram", ("Bramble",), "Bram.", True),
        ("Bram", ("Bramble",), "Bramble.", False),
        ("Bramble Road", ("Bramble",), "Bramble Road.", True),
        ("Bramble Road", ("Bramble",), "Bramble Road in Bramble.", False),
        ("Bramble", ("Bramble Road",), "Bramble.", True),
        ("K7-42", (), "It is k7-42.", True),
        ("K7-4", (), "K7-42.", False),
        ("5:40", (), "At 5:40.", True),
        ("5", (), "15.", False),
        ("tea", ("tea time",), "tea tea.", True),
        ("", (), "", False),
        ("...", (), "Bram ...", False),
    ],
)
def test_right(answer: str, wrong: tuple[str, ...], reply: str, right: bool) -> None:
    assert question("?", answer, wrong).right(reply) is right


@pytest.mark.parametrize("reply", ["It is 'Bram'.", "Bram: that is its name."])
def test_punctuation_around_a_word_does_not_matter(reply: str) -> None:
    assert question("?", "Bram").right(reply)


def test_marks_by_category_and_over_all() -> None:
    asked = [question("1", "a"), question("2", "a"), question("3", "a"), question("4", "a", category="sums")]
    assert exam.marks(asked, ["a", "a", "b", "b"]) == {"all": 0.5, "facts": 2 / 3, "sums": 0.0}
    assert exam.marks([], []) == {}


def test_a_reply_too_few_is_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        exam.marks([question("1", "a")], [])


def test_exams_are_sat_greedily_with_the_whole_chat() -> None:
    engine = FakeEngine({"What is it?": "Bram."})
    asked = Question("context", "k", (Message("system", "Be brief."), Message("user", "What is it?")), "Bram")
    assert exam.sit(engine, [asked]) == ["Bram."]
    assert engine.asked == [asked.messages]
    assert (engine.samplings[0].temperature, engine.samplings[0].max_tokens) == (0.0, 24)


def test_questions_are_read_from_a_file(tmp_path: Path) -> None:
    row = {
        "category": "facts",
        "key": "k",
        "messages": [{"role": "user", "content": "?"}],
        "answer": "a",
        "wrong": ["b"],
    }
    file = tmp_path / "exam.jsonl"
    file.write_text(json.dumps(row) + "\n\n", "utf-8")
    assert exam.read(file) == [question("?", "a", ("b",), key="k")]


@pytest.mark.parametrize(
    "text", ["not json", "[1]", "3", '{"category": "facts"}', '{"key": "k", "messages": 3}']
)
def test_what_is_no_exam_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "exam.jsonl"
    file.write_text(text, "utf-8")
    with pytest.raises(BadInput, match=r"exam\.jsonl"):
        exam.read(file)


def test_a_missing_exam_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        exam.read(tmp_path / "none.jsonl")


# ---- the map --------------------------------------------------------------------------------


def logs(*shares: float) -> list[float]:
    return [float(np.log(s)) for s in shares]


def test_divergence_is_kl_from_the_parent_in_nats() -> None:
    parent = FakeEngine(tokens={"a": logs(0.5, 0.5), "b": logs(0.5, 0.5)})
    child = FakeEngine(tokens={"a": logs(0.9, 0.1), "b": logs(0.5, 0.5)})
    chats = [(Message("user", t),) for t in "ab"]
    there = 0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(0.5 / 0.1)
    back = 0.9 * np.log(0.9 / 0.5) + 0.1 * np.log(0.1 / 0.5)
    assert survey.divergence(parent, child, chats) == pytest.approx(there / 2, abs=1e-6)
    assert survey.divergence(child, parent, chats) == pytest.approx(back / 2, abs=1e-6)
    assert survey.divergence(parent, parent, chats) == 0.0


@pytest.mark.parametrize(
    ("replies", "share"),
    [
        (["a b c d e"], 0.0),
        (["a b"], 0.0),
        ([""], 0.0),
        (["a a a a a"], 2 / 3),
        (["a b c a b c"], 0.25),
        (["a a a a a", "a b c d e"], 1 / 3),
    ],
)
def test_repetition(replies: list[str], share: float) -> None:
    assert survey.repetition(replies) == pytest.approx(share)


def test_no_replies_have_no_repetition_at_all() -> None:
    assert np.isnan(survey.repetition([]))


def sample(asked: str, reply: str) -> Sample:
    return Sample((Message("user", asked), Message("assistant", reply)), "new")


def test_recall_wants_the_whole_reply() -> None:
    engine = FakeEngine({"1": "bram", "2": "It is Bram.", "3": "Rex."})
    assert survey.recall(engine, [sample(k, "Bram.") for k in "123"]) == pytest.approx(1 / 3)
    assert np.isnan(survey.recall(engine, []))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A base, and a child whose only matrix grew by half."""
    for name, scale in (("base", 1.0), ("child", 1.5)):
        (tmp_path / name).mkdir()
        save_file({"w": scale * torch.ones(2, 2)}, tmp_path / name / "model.safetensors")
    return tmp_path / "base", tmp_path / "child"


def test_survey_tells_parent_from_child(folders: tuple[Path, Path]) -> None:
    asked = [question("1", "one"), question("2", "two", category="sums")]
    row = {"p": logs(0.5, 0.5)}
    parent = FakeEngine({"1": "one.", "2": "two.", "new": "no."}, tokens=row)
    child = FakeEngine({"1": "one.", "2": " ", "new": "yes."}, tokens=row)
    chats = [(Message("user", "p"),)] * 300
    said: list[str] = []
    figures = survey.survey(parent, child, *folders, asked, chats, [sample("new", "yes.")], said.append)
    assert said[0] == "the parent's exam, 2 questions"
    assert figures["exam_before"] == {"all": 1.0, "facts": 1.0, "sums": 1.0}
    assert figures["exam_after"] == {"all": 0.5, "facts": 1.0, "sums": 0.0}
    assert figures["exam_items"] == 2
    assert (figures["recall_before"], figures["recall"], figures["recall_items"]) == (0.0, 1.0, 1)
    assert (figures["norm_growth"], figures["norm_growth_worst"]) == (pytest.approx(0.5), "w")
    assert (figures["kl"], figures["not_finite"], figures["empty"]) == (0.0, 0, 0.5)


def test_a_survey_of_nothing_is_rejected(folders: tuple[Path, Path]) -> None:
    base, _ = folders
    figures = survey.survey(FakeEngine(), FakeEngine(), base, base, [], [], [], lambda _: None)
    verdict, rules = judge(figures, LIMITS)
    assert verdict == "reject"
    assert {"exam_items", "exam_drop", "kl", "norm_growth", "repetition", "recall"} <= {
        rule.figure for rule in rules if not rule.ok
    }


# ---- the verdict ----------------------------------------------------------------------------

LIMITS = TopologySettings()
GOOD: Mapping[str, object] = {
    "exam_before": {"all": 0.9, "facts": 0.8, "sums": 1.0},
    "exam_after": {"all": 0.89, "facts": 0.78, "sums": 1.0},
    "exam_items": 300,
    "craft_before": {"verify": 0.95},
    "craft_after": {"verify": 0.9},
    "not_finite": 0,
    "kl": 0.1,
    "norm_growth": 0.3,
    "repetition": 0.01,
    "empty": 0.0,
    "recall": 0.9,
    "recall_known": 0.9,
    "recall_known_before": 0.95,
    "recall_known_items": 64,
}
NUMBERS = sorted(n for n, v in GOOD.items() if not isinstance(v, dict) and not n.startswith("recall_known"))
NAN, INF = float("nan"), float("inf")


def broken(figures: Mapping[str, object]) -> list[str]:
    """The rules that do not hold; the verdict must agree with them."""
    verdict, rules = judge(figures, LIMITS)
    names = [rule.figure for rule in rules if not rule.ok]
    assert verdict == ("reject" if names else "activate")
    return names


def test_good_figures_activate() -> None:
    assert broken(GOOD) == []
    assert {rule.figure for rule in judge(GOOD, LIMITS)[1]} == {
        *NUMBERS,
        "exam_drop",
        "exam_drop.facts",
        "exam_drop.sums",
        "craft_drop",
        "known_drop",
    }


def test_nothing_at_all_is_rejected() -> None:
    verdict, rules = judge({}, LIMITS)
    assert verdict == "reject"
    assert not any(rule.ok for rule in rules)
    assert {rule.shown for rule in rules} == {"missing"}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_missing_figure_breaks_its_rule(name: str) -> None:
    assert broken({k: v for k, v in GOOD.items() if k != name}) == [name]


@pytest.mark.parametrize("value", [None, NAN, INF, -INF, "0", [], {}], ids=repr)
@pytest.mark.parametrize("name", NUMBERS)
def test_a_figure_that_is_no_number_breaks_its_rule(name: str, value: object) -> None:
    assert broken({**GOOD, name: value}) == [name]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("exam_items", 0),
        ("not_finite", 1),
        ("kl", LIMITS.kl + 0.01),
        ("norm_growth", LIMITS.norm_growth + 0.01),
        ("repetition", LIMITS.repetition + 0.01),
        ("empty", 0.06),
        ("recall", LIMITS.recall - 0.01),
    ],
)
def test_a_figure_beyond_its_limit_breaks_its_rule(name: str, value: float) -> None:
    assert broken({**GOOD, name: value}) == [name]


def test_every_number_has_a_limit_of_its_own() -> None:
    wide = LIMITS.model_copy(update={"kl": 9.0, "norm_growth": 9.0, "repetition": 9.0, "recall": 0.0})
    beyond = {**GOOD, "kl": 8.0, "norm_growth": 8.0, "repetition": 8.0, "recall": 0.0}
    assert judge(beyond, wide)[0] == "activate"
    assert broken(beyond) == ["kl", "norm_growth", "repetition", "recall"]


@pytest.mark.parametrize("value", [None, {}, [], "0.9", NAN], ids=repr)
@pytest.mark.parametrize("name", ["exam_before", "exam_after"])
def test_an_exam_without_marks_is_rejected(name: str, value: object) -> None:
    assert "exam_drop" in broken({**GOOD, name: value})


def test_a_missing_exam_is_rejected() -> None:
    for name in ("exam_before", "exam_after"):
        assert "exam_drop" in broken({k: v for k, v in GOOD.items() if k != name})


@pytest.mark.parametrize("name", ["exam_before", "exam_after"])
@pytest.mark.parametrize("category", ["all", "facts"])
def test_a_mark_that_is_not_finite_is_rejected(name: str, category: str) -> None:
    marks = GOOD[name]
    assert isinstance(marks, dict)
    rule = "exam_drop" if category == "all" else "exam_drop.facts"
    for value in (NAN, INF, -INF):
        assert broken({**GOOD, name: {**marks, category: value}}) == [rule]


def test_a_mark_that_is_no_number_is_rejected() -> None:
    assert broken({**GOOD, "exam_after": {"all": 0.89, "facts": None, "sums": 1.0}}) == ["exam_drop.facts"]


@pytest.mark.parametrize(
    ("after", "rules"),
    [
        ({"all": 0.84, "facts": 0.8, "sums": 1.0}, ["exam_drop"]),
        ({"all": 0.9, "facts": 0.44, "sums": 1.0}, ["exam_drop.facts"]),
        ({"all": 0.9, "facts": 0.8}, ["exam_drop.sums"]),
        ({"facts": 0.8, "sums": 1.0}, ["exam_drop"]),
        ({"all": 1.0, "facts": 1.0, "sums": 1.0}, []),
        ({"all": 0.86, "facts": 0.66, "sums": 0.86}, []),
    ],
)
def test_marks_may_fall_only_so_far(after: Mapping[str, float], rules: list[str]) -> None:
    assert broken({**GOOD, "exam_after": after}) == rules


@pytest.mark.parametrize("after", [{"verify": 0.79}, {}, {"verify": NAN}, None], ids=repr)
def test_a_model_that_no_longer_judges_is_rejected(after: object) -> None:
    assert broken({**GOOD, "craft_after": after}) == ["craft_drop"]
    assert broken({**GOOD, "craft_after": {"verify": 0.81, "dream": 0.0}}) == []
    assert broken({**GOOD, "craft_before": {"verify": 0.6}, "craft_after": {"verify": 0.3}}) == []


@pytest.mark.parametrize("known", [0.81, 0.0, NAN, None, "0.9"], ids=repr)
def test_what_earlier_nights_taught_may_fall_only_so_far(known: object) -> None:
    assert broken({**GOOD, "recall_known": known}) == ["known_drop"]
    assert broken({**GOOD, "recall_known": 0.83}) == []


@pytest.mark.parametrize(
    ("asked", "lost", "bad"), [(1, 1, False), (8, 2, False), (8, 3, True), (40, 7, True)]
)
def test_two_questions_may_be_lost_by_chance(asked: int, lost: int, bad: bool) -> None:
    known = {"recall_known_before": 1.0, "recall_known": 1 - lost / asked, "recall_known_items": asked}
    assert broken({**GOOD, **known}) == (["known_drop"] if bad else [])
    uncounted = {**GOOD, **known, "recall_known_items": None}
    assert broken(uncounted) == (["known_drop"] if lost / asked > LIMITS.known_drop else [])


@pytest.mark.parametrize("name", ["recall_known", "recall_known_before"])
def test_a_past_that_was_not_asked_for_is_rejected(name: str) -> None:
    assert broken({k: v for k, v in GOOD.items() if k != name}) == ["known_drop"]


def test_a_first_night_has_no_past_to_know() -> None:
    first = {**GOOD, "recall_known": None, "recall_known_before": None, "recall_known_items": 0}
    assert broken(first) == []
    assert broken({k: v for k, v in first.items() if k != "recall_known_items"}) == ["known_drop"]


def test_rules_say_what_was_found_and_why() -> None:
    _, rules = judge({**GOOD, "kl": 0.7654}, LIMITS)
    [rule] = [rule for rule in rules if rule.figure == "kl"]
    assert (rule.value, rule.limit, rule.ok, rule.shown) == (0.7654, LIMITS.kl, False, "0.765")
    assert all(rule.why for rule in rules)
