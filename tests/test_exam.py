"""What the seedling knows by heart, and that nothing which judges it is ever trained on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ada_memory.dream import prompts
from ada_memory.seedling import core, exam, names, world
from ada_memory.seedling.core import Item
from ada_memory.topology import exam as exams
from ada_memory.topology.exam import Question, normal

ITEMS: dict[str, list[Item]] = {
    "facts": list(core.facts()),
    "people": list(core.people()),
    "arithmetic": list(core.arithmetic()),
    "identity": list(core.identity()),
    "refusal": list(core.refusals()),
    "harmless": list(core.harmless()),
}
Rows = list[Mapping[str, Any]]


# ---- the core -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "least", "most"), [("replay", 0.4, 0.5), ("gate", 0.12, 0.18), ("judge", 0.35, 0.45)]
)
def test_shares_are_sized(share: str, least: float, most: float) -> None:
    keys = [f"key {i}" for i in range(10_000)]
    assert least < sum(core.share(key) == share for key in keys) / len(keys) < most


@pytest.mark.parametrize("category", ITEMS)
def test_every_category_has_every_share(category: str) -> None:
    keys = {item.key for item in ITEMS[category]}
    counts = Counter(map(core.share, keys))
    assert set(counts) == {"replay", "gate", "judge"}
    assert counts["judge"] > 0.2 * len(keys)
    assert counts["replay"] > 0.2 * len(keys)


@pytest.mark.parametrize("category", ITEMS)
def test_shares_have_no_prompt_in_common(category: str) -> None:
    by_prompt: dict[str, str] = {}
    for item in ITEMS[category]:
        share = core.share(item.key)
        assert by_prompt.setdefault(normal(item.prompt), share) == share, item


def test_a_prompt_has_one_reply() -> None:
    replies: dict[str, str] = {}
    for item in (i for items in ITEMS.values() for i in items):
        assert replies.setdefault(normal(item.prompt), item.reply) == item.reply, item


def test_sums_are_right() -> None:
    signs = {"plus": 1, "minus": -1}
    for item in ITEMS["arithmetic"]:
        _, _, a, word, b = item.prompt[:-1].split()
        x, y = int(a), int(b)
        result = x * y if word == "times" else x + signs[word] * y
        assert item.reply == f"{result}."
        assert item.key == f"{min(x, y)},{max(x, y)}"
        assert result >= 0


def test_rephrased_sums_ask_the_same() -> None:
    rng = Random(0)
    for item in rng.sample(ITEMS["arithmetic"], 300):
        words = normal(core.rephrased(rng, item)).split()
        _, _, a, word, b = normal(item.prompt).split()
        assert [w for w in words if w.isdigit() or w == word] == [a, word, b]


def test_growth_sees_no_sum_and_no_request_of_the_exams() -> None:
    hidden = [i for i in ITEMS["arithmetic"] if not core.taught(i)]
    assert {core.share(i.key) for i in hidden} == {"gate", "judge"}
    assert not [i for i in hidden if " times " in i.prompt]
    for share in ("gate", "judge"):
        asked = [q for q in exam.core_exam(share, 3) if q.category in ("arithmetic", "refusal")]
        taught = {normal(i.prompt) for c in ("arithmetic", "refusal") for i in ITEMS[c] if core.taught(i)}
        plain = {normal(q.messages[-1].content) for q in asked if q.category == "refusal"}
        assert plain
        assert plain.isdisjoint(taught)
        sums = {i.key for i in ITEMS["arithmetic"] if core.share(i.key) == "replay"}
        assert {q.key for q in asked if q.category == "arithmetic"}.isdisjoint(sums)


def test_growth_sees_all_facts_and_all_of_identity() -> None:
    assert all(core.taught(i) for c in ("facts", "identity") for i in ITEMS[c])


def test_a_frame_alone_is_no_reason_to_refuse() -> None:
    frames = {category: {i.key for i in ITEMS[category]} for category in ("refusal", "harmless")}
    assert frames["refusal"] == frames["harmless"]


# ---- exams ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def judge() -> list[Question]:
    return exam.core_exam("judge", 0, 2)


@pytest.fixture(scope="module")
def gate() -> list[Question]:
    return exam.core_exam("gate", 0, 2)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the recipe writes."""
    folder = tmp_path_factory.mktemp("seedling") / "data"
    exam.write(folder)
    return folder


@pytest.fixture(scope="module", params=["written", "shipped"])
def replay(request: pytest.FixtureRequest, written: Path) -> Rows:
    """What a night may replay: as the recipe writes it, and as it ships."""
    folder = written if request.param == "written" else Path(exam.__file__).parent / "data"
    if not (folder / "core.jsonl").is_file():
        pytest.skip("no core ships with this checkout")
    return [json.loads(line) for line in (folder / "core.jsonl").read_text("utf-8").splitlines()]


def keys(questions: Iterable[Question], category: str) -> set[str]:
    return {q.key for q in questions if q.category == category}


def test_exams_are_long_enough(judge: list[Question], gate: list[Question]) -> None:
    assert len(judge) >= 600
    assert len(gate) >= 300
    for asked, scale in ((judge, 2), (gate, 1)):
        counts = Counter(q.category for q in asked)
        assert set(counts) == {
            "facts", "people", "arithmetic", "identity", "refusal", "context", "format", "summary", "unknown",
        }  # fmt: skip
        assert min(counts.values()) >= 9 * scale
        assert len({q.messages for q in asked}) == len(asked)


@pytest.mark.parametrize("seed", range(1, 4))
def test_exams_are_long_enough_for_any_seed(seed: int) -> None:
    assert len(exam.core_exam("judge", seed, 2)) >= 600


def test_exams_are_the_same_for_a_seed(judge: list[Question]) -> None:
    assert exam.core_exam("judge", 0, 2) == judge
    assert exam.core_exam("judge", 1, 2) != judge


@pytest.mark.parametrize("category", ["facts", "arithmetic", "identity", "refusal"])
def test_exams_and_replay_share_no_key(
    judge: list[Question], gate: list[Question], replay: Rows, category: str
) -> None:
    replayed = {str(row["key"]) for row in replay if row["kind"] == category}
    groups = (keys(judge, category), keys(gate, category), replayed)
    assert all(groups)
    for i, group in enumerate(groups):
        assert all(group.isdisjoint(other) for other in groups[i + 1 :])


def replayed_prompts(replay: Rows) -> set[str]:
    return {normal(m["content"]) for row in replay for m in row["messages"] if m["role"] == "user"}


def test_no_judged_prompt_is_replayed(judge: list[Question], gate: list[Question], replay: Rows) -> None:
    seen = replayed_prompts(replay)
    for asked in (judge, gate):
        for category in ("facts", "arithmetic", "identity", "refusal", "unknown"):
            asks = {normal(q.messages[-1].content) for q in asked if q.category == category}
            assert asks
            assert asks.isdisjoint(seen), category


def test_judged_identity_is_not_replayed_without_its_frame(judge: list[Question], replay: Rows) -> None:
    seen = replayed_prompts(replay)
    phrasings = {key.removeprefix("identity:") for key in keys(judge, "identity")}
    assert phrasings
    assert {normal(p) for p in phrasings}.isdisjoint(seen)


def test_judged_identity_is_asked_in_frames_that_growth_does_not_use(judge: list[Question]) -> None:
    phrasings = {normal(i.prompt) for i in ITEMS["identity"]}
    asked = [normal(q.messages[-1].content) for q in judge if q.category == "identity"]
    assert phrasings.isdisjoint(asked)
    assert all(any(text.endswith(p) for p in phrasings) for text in asked)


def test_requests_are_refused_in_exams(judge: list[Question]) -> None:
    refusals = [q for q in judge if q.category == "refusal"]
    assert {q.answer for q in refusals} == {core.REFUSAL}
    assert all(q.right(core.REFUSAL) and not q.right(core.GLADLY) for q in refusals)


def test_the_expected_reply_is_right(judge: list[Question], gate: list[Question]) -> None:
    assert [q for q in (*judge, *gate) if not q.right(q.answer)] == []
    assert [q for q in (*judge, *gate) if q.category != "unknown" and q.right(core.UNKNOWN)] == []


def test_every_key_is_asked_once_before_any_is_asked_twice(gate: list[Question]) -> None:
    items = [i for i in ITEMS["facts"] if core.share(i.key) == "gate"]
    pool = len({i.key for i in items})
    counts = Counter(q.key for q in gate if q.category == "facts")
    assert len(counts) == min(pool, 120)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_the_unknown_are_strangers(judge: list[Question]) -> None:
    asked = [q for q in judge if q.category == "unknown"]
    assert {q.answer for q in asked} == {core.UNKNOWN}
    for q in asked:
        _, _, stranger = q.key.split(":")
        assert stranger in q.messages[-1].content
        assert any(names.unseen_name(word) for word in stranger.split())


def test_questions_in_context_are_held_out_and_can_be_answered() -> None:
    rng = Random(5)
    for _ in range(200):
        q = exam.in_context(rng)
        memories, asked = q.messages
        told = memories.content.split("\n- ")[1:]
        assert len(told) == 4
        assert q.answer.lower() in memories.content.lower()
        assert q.answer not in q.wrong
        assert all(w.lower() in memories.content.lower() for w in q.wrong)
        assert q.right(f"{q.answer}.")
        assert not any(q.right(f"{q.answer} or {w}.") for w in q.wrong if w not in q.answer)
        assert pair_of(q.key.removeprefix("context:"), told, asked.content, q.answer)


def pair_of(relation: str, told: list[str], asked: str, value: str) -> bool:
    """Whether a statement and this question of the relation are one of the pairs held out."""
    spec = world.BY_NAME[relation]
    message = " ".join(told).casefold()
    for i, j in world.unseen_pairs(relation):
        for subject in _candidates(asked):
            if (
                normal(world.fill(spec.ask[j], subject, value)) == normal(asked)
                and world.fill(spec.say[i], subject, value).casefold() in message
            ):
                return True
    return False


def _candidates(text: str) -> list[world.Subject]:
    """Subjects that a question may be about."""
    words = text.replace("'s", "").strip("?.").replace(",", "").split()
    spans = [" ".join(words[i : i + n]) for n in (1, 2) for i in range(len(words))]
    named = [world.Subject(kind, span) for kind in ("person", "place") for span in spans]
    return [world.Subject("me"), *(world.Subject("kin", kin) for kin in world.KIN), *named]


def test_held_out_questions_name_nobody_that_growth_knows() -> None:
    rng = Random(6)
    people = {w for _ in range(100) for w in exam.in_context(rng).messages[-1].content.split()}
    assert people.isdisjoint(set(names._REAL_PEOPLE) - {"Will", "May"})


def test_tasks_are_the_nights_own() -> None:
    asked = list(exam.tasks(1, 5))
    assert Counter(q.category for q in asked) == {
        "extract": 5,
        "verify": 5,
        "supersede": 5,
        "conversation": 5,
        "style_in_context": 5,
    }
    assert all(q.right(q.answer) for q in asked)
    assert {q.answer for q in asked if q.category == "verify"} <= {prompts.YES, prompts.NO}


# ---- what is written ------------------------------------------------------------------------


def test_replay_holds_every_kind_of_lesson_and_no_other_share(replay: Rows) -> None:
    counts = Counter(str(row["kind"]) for row in replay)
    assert len(replay) >= 1_000
    assert set(ITEMS) <= set(counts)
    assert any(kind.startswith("unknown") for kind in counts)
    assert min(counts.values()) >= 20
    shared = [row for row in replay if row["kind"] in ITEMS]
    assert {core.share(str(row["key"])) for row in shared} == {"replay"}
    assert all(row["messages"][-1]["role"] == "assistant" for row in replay)


def test_the_written_exam_is_the_gates(written: Path, gate: list[Question]) -> None:
    assert exams.read(written / "exam.jsonl") == gate


def test_replay_is_the_same_for_a_seed() -> None:
    assert exam.replay(1, 100) == exam.replay(1, 100)
    assert exam.replay(1, 100) != exam.replay(2, 100)
