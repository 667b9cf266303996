"""The benchmark's day, and the judge's own bookkeeping: what is true, and that nothing leaked."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ada_memory.bench import day as days
from ada_memory.bench import night, nights
from ada_memory.bench.day import Told
from ada_memory.cli.benches import bench_root
from ada_memory.errors import AdaError, BadInput
from ada_memory.records import Message
from ada_memory.seedling import core, exam, names, world
from ada_memory.seedling.world import Fact, Subject, Wish
from ada_memory.sovereign.disk import append_line
from ada_memory.topology.exam import Question, normal
from tests.fake_engine import FakeEngine

DOG = Fact("dog_name", Subject("me"), "Bramble")
JOB = Fact("job", Subject("kin", "sister"), "glassblower")
CAPTAIN = Wish("call_me", "Captain")
OWNERS = {"m1": Told("", DOG), "m2": Told("", JOB), "m3": Told("", CAPTAIN)}


# ---- the day --------------------------------------------------------------------------------


def facts(told: Sequence[Told]) -> list[Fact]:
    return [t.of for t in told if isinstance(t.of, Fact)]


@pytest.mark.parametrize("seed", range(5))
def test_a_day_has_distinct_facts_and_wishes(seed: int) -> None:
    told = days.day(60, seed)
    drawn = facts(told)
    assert len(drawn) == 60
    assert len({(f.relation, f.subject) for f in drawn}) == 60
    assert len({(f.relation, f.value) for f in drawn}) == 60
    wishes = [t.of.style for t in told if isinstance(t.of, Wish)]
    assert len(wishes) == len(set(wishes)) == 2


def test_every_message_says_its_fact() -> None:
    for item in days.day(40, 1):
        said = item.text.casefold()
        assert any(claim.casefold().rstrip(".") in said for claim in item.of.says())
        assert item.of.value in item.text


def test_nobody_has_told_what_is_called_untold() -> None:
    told = days.day(40, 4)
    asked = days.untold(told, 4)
    said = {(f.subject.kind, normal(q)) for f in facts(told) for q in f.asks()}
    assert {q.category for q in asked} == {"me", "kin", "person", "place"}
    assert not said & {(q.category, normal(q.messages[-1].content)) for q in asked}
    assert len(days.untold(told, 4, 2)) == 2 * 40


def test_a_leak_is_what_was_taught_given_as_an_answer_to_something_else() -> None:
    told = [Told("", DOG), Told("", JOB)]
    first, *rest = days.untold(told, 1)
    leaks = days.leak(FakeEngine({first.messages[0].content: "It is Bramble."}), told, 1)
    others = sum(q.category == "me" for q in rest)
    assert leaks == {"all": round(1 / 12, 4), "me": round(1 / (others + 1), 4), "kin": 0.0}
    assert days.leak(FakeEngine(), [], 1) == {"all": 0.0}


def test_names_of_the_day_are_new_to_the_model() -> None:
    people = [f.subject.word for s in range(5) for f in facts(days.day(40, s)) if f.subject.kind == "person"]
    assert len(people) > 30
    assert all(names.unseen_name(word) for name in people for word in name.split())


def test_a_day_is_the_same_for_a_seed() -> None:
    assert days.day(20, 7) == days.day(20, 7)
    assert days.day(20, 7) != days.day(20, 8)


def test_judges_ask_of_their_own_fact() -> None:
    for item in days.day(30, 2):
        if isinstance(item.of, Fact):
            assert len(set(item.judges)) == days.JUDGES
            assert set(item.judges) <= set(item.of.asks())
        else:
            assert len(set(item.judges)) == 2
            assert set(item.judges) <= dict(item.of.shows()).keys()


def test_every_judge_is_withheld_in_every_frame() -> None:
    told = days.day(15, 3)
    kept = days.withheld(told)
    assert len(kept) == len(set(kept))
    for item in told:
        keep = world.proper_words(item.of) if isinstance(item.of, Fact) else ()
        for judge in item.judges:
            assert judge in kept
            assert {world.framed(judge, frame, keep) for frame in world.ASK_FRAMES} <= set(kept)


def test_a_dream_of_a_judges_question_is_withheld() -> None:
    told = days.day(6, 3)
    kept = {normal(p) for p in days.withheld(told)}
    met = 0
    for item in told:
        if isinstance(item.of, Fact):
            judged = {normal(j) for j in item.judges}
            rng = Random(1)
            for _ in range(150):
                prompt = world.true_sample(rng, "question", item.of)[0]
                if judged & set(world.unframed(prompt)):
                    met += 1
                    assert normal(prompt) in kept
    assert met > 50


def test_judged_questions_have_one_right_value() -> None:
    told = days.day(40, 4)
    asked = days.questions(told)
    assert len(asked) == 40 * days.JUDGES
    by_prompt = {judge: f for t in told if isinstance(f := t.of, Fact) for judge in t.judges}
    for q in asked:
        f = by_prompt[q.messages[-1].content]
        assert q.answer == f.value
        assert q.right(f.answer())
        assert not any(q.right(f"{w} or {f.value}.") for w in q.wrong)
        twins = {o.value for o in facts(told) if o.relation == f.relation} - {f.value}
        assert {v for v in twins if v not in f.value and f.value not in v} <= set(q.wrong)


def test_recall_and_style_are_measured() -> None:
    told = days.day(10, 5)
    asked, styled = days.questions(told), days.manners(told)
    assert len(styled) == 4
    replies = {q.messages[-1].content: q.answer for q in (*asked, *styled)}
    assert days.recall(FakeEngine(replies), asked) == 1.0
    assert days.recall(FakeEngine(), asked) == 0.0
    assert days.follows(FakeEngine(replies), styled) == 1.0
    assert days.follows(FakeEngine({k: f"{v} Well." for k, v in replies.items()}), styled) == 0.0
    assert days.follows(FakeEngine(), []) == 0.0


# ---- what is true ---------------------------------------------------------------------------


def row(kind: str, prompt: str, reply: str, *memories: str, **more: object) -> dict[str, Any]:
    return {"kind": kind, "prompt": prompt, "reply": reply, "memories": list(memories), **more}


@pytest.mark.parametrize(
    ("made", "true"),
    [
        (row("question", "What is my dog called?", "Bramble.", "m1"), True),
        (row("question", "What is my dog called?", "Rex.", "m1"), False),
        (row("question", "What is my dog called?", "Bramble.", "m2"), False),
        (row("question", "What is my dog called?", "Bramble.", "m9"), False),
        (row("question", "What is my dog called?", "Bramble.", "m1", "m2"), False),
        (row("question", "What is my dog called?", "Bramble."), False),
        (row("question", "", "Bramble.", "m1"), False),
        (row("style", "Good evening!", "Good evening, Captain.", "m3"), True),
        (row("style", "Good evening!", "Good evening.", "m3"), False),
        (row("bridge", "What is my dog called?", "Bramble.", "m1"), False),
        (row("bridge", *world.bridge(Random(1), DOG, JOB), "m1", "m2"), True),
        (row("bridge", *world.bridge(Random(1), DOG, JOB), "m2", "m1"), False),
        (row("bridge", *world.bridge(Random(1), DOG, JOB), "m1", "m9"), False),
    ],
)
def test_a_dream_is_true_of_the_facts_it_came_from(made: Mapping[str, Any], true: bool) -> None:
    assert night._is_true(made, OWNERS) is true


def test_bridges_hold_both_questions_and_both_answers_in_order() -> None:
    prompt, reply = world.bridge(Random(1), DOG, JOB)
    assert night._bridges(prompt.lower(), reply.upper(), [DOG, JOB])
    assert not night._bridges(prompt, "glassblower, and Bramble.", [DOG, JOB])
    assert not night._bridges(prompt, "Bramble.", [DOG, JOB])
    assert not night._bridges("What is my dog called?", reply, [DOG, JOB])
    assert not night._bridges(prompt, reply, [DOG, CAPTAIN])


def write(folder: Path, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), "utf-8")


def test_the_verifier_is_judged_by_the_grammar(tmp_path: Path) -> None:
    common: dict[str, Any] = {"claim": "", "score": 0.9}
    asked = ("question", "What is my dog called?")
    write(
        tmp_path,
        "verify/dreams.jsonl",
        [
            row(*asked, "Bramble.", "m1", accepted=True, reason="", **common),
            row(*asked, "Rex.", "m1", accepted=True, reason="", **common),
            row(*asked, "Bramble.", "m1", accepted=False, reason="duplicate", **common),
            row(*asked, "Bramble.", "m1", accepted=False, reason="enough of this memory", **common),
            row(*asked, "Bramble.", "m1", accepted=False, reason="the verifier says no", **common),
            row(*asked, "Bram.", "m1", accepted=False, reason="the memory answers: Bramble.", **common),
            row("style", "Hi!", "Hi, Captain.", "m3", accepted=True, reason="", **common),
        ],
    )
    figures = night._dreams(tmp_path, OWNERS, list(OWNERS.values()))
    assert (figures["dreams_made"], figures["dreams_accepted"]) == (7, 3)
    assert figures["dream_precision"] == pytest.approx(2 / 3, abs=1e-4)
    assert figures["dream_precision_by_kind"] == {"question": 0.5, "style": 1.0}
    assert figures["verifier_recall"] == pytest.approx(3 / 4, abs=1e-4)
    assert figures["dreams_held_by_kind"] == {"question": 3, "style": 1}
    false = figures["dreams_accepted_but_false"]
    assert isinstance(false, list)
    assert [r["reply"] for r in false] == ["Rex."]


def test_a_night_without_dreams_has_figures(tmp_path: Path) -> None:
    figures = night._dreams(tmp_path, OWNERS, [])
    assert (figures["dreams_made"], figures["dream_precision"], figures["verifier_recall"]) == (0, 0, 0)


# ---- many nights ----------------------------------------------------------------------------


def test_nights_that_a_home_has_behind_it_are_told_and_not_slept_again(tmp_path: Path) -> None:
    diary, whose = tmp_path / nights.DIARY, {"seed": 7, "facts_per_night": 2}
    assert nights._lived(diary, whose) == ({}, [])
    append_line(diary, json.dumps({**whose, "before": {"all": 0.98}}))
    append_line(diary, json.dumps({"night": 1, "recall_all": 1.0}))
    assert nights._lived(diary, whose) == ({"all": 0.98}, [{"night": 1, "recall_all": 1.0}])
    with pytest.raises(BadInput, match="other nights"):
        nights._lived(diary, {**whose, "seed": 8})
    with pytest.raises(BadInput, match="other nights"):
        nights._lived(diary, {**whose, "forge.noise": "0.0"})
    with diary.open("a") as file:
        file.write('{"night": 2, "rec')
    assert nights._lived(diary, whose)[1] == [{"night": 1, "recall_all": 1.0}]
    append_line(diary, json.dumps({"night": 2}))
    assert len(nights._lived(diary, whose)[1]) == 2


def test_many_nights_are_told_as_figures_and_as_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="it comes with the extra `bench`")

    def row(number: int, recall: float, exam: float, verdict: str) -> dict[str, object]:
        known = {"recall_all": recall, "recall_tonight": 1.0, "recall_first": recall / 2, "leak": 0.1}
        return {"night": number, "verdict": verdict, "seconds": 60.0 * number, "exam": exam, **known}

    rows = [row(1, 1.0, 0.98, "activate"), row(2, 0.8, 0.95, "reject"), row(3, 0.9, 0.97, "reduced")]
    found: Any = nights._figures(rows, {"all": 0.98, "facts": 1.0}, 1_000)
    recalls = [found[f"recall_{name}"] for name in ("all_final", "all_min", "first_final")]
    assert recalls == [0.9, 0.8, 0.45]
    assert (found["exam_start"], found["exam_min"], found["exam_final"]) == (0.98, 0.95, 0.97)
    assert (found["seconds_night_2"], found["seconds_last"], found["rejected"]) == (120.0, 180.0, [2])
    assert found["nights"] == rows
    nights.plot(found, tmp_path / "nights.png")
    assert (tmp_path / "nights.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(BadInput, match="cannot be written"):
        nights.plot(found, tmp_path / "nowhere" / "nights.png")
    drawn = (tmp_path / "nights.png").read_bytes()
    nights.must_plot(tmp_path / "nights.png")
    assert (tmp_path / "nights.png").read_bytes() == drawn, "what was drawn before stays until there is more"
    for wrong in (tmp_path / "nowhere" / "nights.png", tmp_path / "nights.doc"):
        with pytest.raises(BadInput):
            nights.must_plot(wrong)


def test_a_night_that_ended_before_its_rows_has_taught_nothing(tmp_path: Path) -> None:
    result = tmp_path / "dataset" / "result.json"
    assert not night.made_rows(tmp_path)
    result.parent.mkdir()
    for outcome, taught in (("done", True), ("halt", False)):
        result.write_text(json.dumps({"outcome": outcome}), "utf-8")
        assert night.made_rows(tmp_path) is taught


def test_a_bench_that_is_told_to_end_ends_like_ctrl_c() -> None:
    usual = signal.getsignal(signal.SIGTERM)
    try:
        bench_root()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
    finally:
        signal.signal(signal.SIGTERM, usual)


# ---- nothing leaked -------------------------------------------------------------------------


def trained(prompt: str, reply: str = "Yes.", source: str = "new", kind: str = "question") -> dict[str, Any]:
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": reply}]
    return {"messages": turns, "source": source, "kind": kind, "weight": 1.0, "memories": []}


def question(category: str, key: str, prompt: str) -> Question:
    return Question(category, key, (Message("user", prompt),), "?")


ASKED = [question("recall", "dog_name:", "What is my dog called?")]
JUDGED = [
    question("facts", "capital:France", "What is the capital of France?"),
    question("arithmetic", "3,14", "How much is 14 plus 3?"),
    question("identity", "identity:Who are you?", "So, who are you?"),
    question("context", "context:job", "What is my job?"),
]
CLEAN = [
    trained("What is the name of my dog?"),
    trained("What is my job?"),
    trained("Tell me the capital of Norway.", "Oslo.", "core"),
    trained("Work out 14 minus 4.", "10.", "core"),
]


def apart(folder: Path, **rows: Sequence[Mapping[str, Any]]) -> None:
    for name in ("train", "stop", "anchors"):
        write(folder, f"dataset/{name}.jsonl", rows.get(name, CLEAN))
    night.assert_apart(folder, ASKED, JUDGED)


def test_a_clean_night_passes(tmp_path: Path) -> None:
    apart(tmp_path)


@pytest.mark.parametrize("name", ["train", "stop", "anchors"])
@pytest.mark.parametrize(
    "leak",
    [
        trained("What is my dog called?"),
        trained("what is my DOG called"),
        trained("So, who are you?", source="core"),
        trained("What is the capital of France?", source="core"),
    ],
    ids=lambda r: r["messages"][0]["content"],
)
def test_a_judged_prompt_that_was_trained_on_is_found(
    tmp_path: Path, name: str, leak: Mapping[str, Any]
) -> None:
    with pytest.raises(AdaError, match="judged prompts were trained on"):
        apart(tmp_path, **{name: [*CLEAN, leak]})


def test_a_judged_prompt_in_an_earlier_turn_is_found(tmp_path: Path) -> None:
    leak = trained("Thanks.")
    leak["messages"] = [*trained("What is my dog called?")["messages"], *leak["messages"]]
    with pytest.raises(AdaError, match="judged prompts"):
        apart(tmp_path, train=[leak])


@pytest.mark.parametrize("source", ["core", "due", "self"])
@pytest.mark.parametrize(
    "prompt", ["Name the capital of France.", "Calculate 3 plus 14.", "14 minus 3 is what?"]
)
def test_a_judged_fact_that_was_replayed_in_other_words_is_found(
    tmp_path: Path, prompt: str, source: str
) -> None:
    with pytest.raises(AdaError, match="judged facts or operand pairs"):
        apart(tmp_path, anchors=[*CLEAN, trained(prompt, source=source)])


def test_what_the_recipe_replays_is_apart_from_what_judges(tmp_path: Path) -> None:
    rows = [{**r, "source": "core"} for r in exam.replay(count=400)]
    write(tmp_path, "dataset/anchors.jsonl", rows)
    judged = exam.core_exam("judge", 0, 2)
    night.assert_apart(tmp_path, [], judged)
    leak = next(i for i in core.facts() if core.share(i.key) == "judge" and i.key in {q.key for q in judged})
    write(tmp_path, "dataset/anchors.jsonl", [*rows, trained(leak.prompt, leak.reply, "core")])
    with pytest.raises(AdaError):
        night.assert_apart(tmp_path, [], judged)


def test_a_judged_acquaintance_is_found_in_any_words_and_frame(tmp_path: Path) -> None:
    judged = [q for q in exam.core_exam("judge", 0, 2) if q.category == "people"]
    asked = {q.messages[-1].content for q in judged}
    leak = next(i for i in core.people() if i.key == judged[0].key and i.prompt not in asked)
    framed = world.framed(leak.prompt, "Quick question: {l}", leak.key.split(":"))
    write(tmp_path, "dataset/anchors.jsonl", [trained(framed, leak.reply, "core")])
    with pytest.raises(AdaError, match="judged facts .* were replayed"):
        night.assert_apart(tmp_path, [], judged)
