"""What was learned before: when it is due, how it is asked for, and what it is rehearsed with."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fsrs import Rating

from ada_memory.circadian import past, rehearsal, spacing
from ada_memory.dream.generator import Reading
from ada_memory.dream.prompts import Claim
from ada_memory.engines.engine import Completion
from ada_memory.forge.neighbours import USER, Aside
from ada_memory.hippocampus.rehearsal import Review
from ada_memory.records import Chat, Dream, Generation, Message, NightRecord, Sample
from ada_memory.sovereign import succession
from ada_memory.sovereign.disk import read_lines
from tests.fake_engine import FakeEngine, Replies
from tests.nights import NOON, Mind, whole_night

LINE = [f"p{number}" for number in range(40)]


@pytest.fixture
def mind(tmp_path: Path) -> Iterator[Mind]:
    made = Mind(tmp_path)
    yield made
    made.journal.close()


def known(mind: Mind, night: str) -> list[dict[str, Any]]:
    return read_lines(mind.night(night) / "gather" / "known.jsonl")


# --- when ------------------------------------------------------------------------------------------------


def nights_until_due(reviews: list[Review], last: int) -> int:
    """Nights from `last` until a memory learned in p0 is due."""
    return next(n for n in range(1, 40) if spacing.due(LINE[: last + n], {"m": "p0"}, reviews))


def test_what_is_known_is_asked_for_ever_more_seldom_and_what_was_forgotten_soon() -> None:
    right: list[Review] = []
    gaps: list[int] = []
    for _ in range(6):
        gaps.append(nights_until_due(right, sum(gaps)))
        right.append(Review(LINE[sum(gaps)], "m", 2, 2))
    assert gaps == sorted(gaps) and gaps[0] == 1 < gaps[-1]
    wrong = [*right[:-1], right[-1]._replace(right=0)]
    assert nights_until_due(wrong, sum(gaps)) < nights_until_due(right, sum(gaps))


def test_reviews_of_nights_beside_the_line_count_for_nothing() -> None:
    assert spacing.due(["p0"], {"m": "p0"}, [Review("elsewhere", "m", 2, 2)]) == ["m"]


def test_who_has_waited_longest_is_first() -> None:
    assert spacing.due(LINE[:9], {"late": "p7", "early": "p2"}, []) == ["early", "late"]


@pytest.mark.parametrize(("right", "grade"), [(4, Rating.Good), (2, Rating.Hard), (1, Rating.Again)])
def test_a_grade_is_the_share_of_right_answers(right: int, grade: Rating) -> None:
    assert spacing.grade(Review("p1", "m", 4, right)) is grade


# --- what gather hands on --------------------------------------------------------------------------------


def test_a_deep_night_gets_the_samples_of_what_is_known_and_asks_for_what_is_due(mind: Mind) -> None:
    cat = mind.say("My cat is called Miso.")
    first = asyncio.run(whole_night(mind))
    assert known(mind, first) == []
    mind.say("My dog is called Bruno.")
    second = asyncio.run(whole_night(mind))
    [row] = known(mind, second)
    assert (row["id"], row["due"]) == (cat, True)
    assert [sample["dream"] for sample in row["samples"]] == [f"{first}/{first}-0", f"{first}/{first}-1"]
    assert {sample["part"] for sample in row["samples"]} == {"train"}


def test_what_must_not_be_trained_is_not_rehearsed_either(mind: Mind) -> None:
    line = past.Line((), (), {}, ())
    assert past.known(mind.journal, line, [], asks=True) == []


def test_a_question_that_ever_judged_is_never_called_a_sample(mind: Mind) -> None:
    cat = mind.say("My cat is called Miso.")
    journal = mind.journal
    for number in (1, 2):
        journal.open_night(NightRecord(f"p{number}", "manual", NOON, 1, "gen-0000", 7)).result()
    asked = Dream("d1", "question", (cat,), "c", "What is my cat called?", "Miso.", 0, accepted=True)
    journal.record_dreams("p1", "gen-0000", [asked]).result()
    journal.record_generation(Generation("gen-0001", "gen-0000", "p1", None, NOON), [], ["d1"]).result()
    journal.record_generation(Generation("gen-0002", "gen-0001", "p2", None, NOON), ["p1/d1"]).result()
    assert [s.part for s in journal.samples([cat], ["gen-0001", "gen-0002"])] == ["stop"]
    assert [s.part for s in journal.samples([cat], ["gen-0002"])] == ["train"]
    assert journal.samples([cat], []) == []


def test_bridges_are_not_rehearsed(mind: Mind) -> None:
    cat, dog = mind.say("My cat is called Miso."), mind.say("My dog is called Bruno.")
    journal = mind.journal
    journal.open_night(NightRecord("p2", "manual", NOON, 2, "gen-0000", 7)).result()
    bridge = Dream("d1", "bridge", (cat, dog), "c", "Cat and dog?", "Miso and Bruno.", 0, accepted=True)
    journal.record_dreams("p2", "gen-0000", [bridge]).result()
    journal.record_generation(Generation("gen-0001", "gen-0000", "p2", None, NOON), ["d1"]).result()
    assert journal.samples([cat, dog], ["gen-0001"]) == []


def test_what_the_serving_line_knows_is_not_lost_by_what_happened_beside_it(mind: Mind) -> None:
    cat = mind.say("My cat is called Miso.")
    roll = (mind.home, mind.journal, mind.base, mind.voice.swap, lambda: mind.now)
    first = asyncio.run(whole_night(mind))
    asyncio.run(succession.rollback(*roll))
    assert past.line(mind.journal, "gen-0000").lost == (cat,)
    second = asyncio.run(whole_night(mind))
    assert past.line(mind.journal, "gen-0002").learned == {cat: second}
    asyncio.run(succession.rollback(*roll, "gen-0001"))
    line = past.line(mind.journal, "gen-0001")
    assert (line.learned, line.lost, line.nights) == ({cat: first}, (), (first,))


def test_what_was_lost_and_then_skipped_does_not_come_back_for_ever(mind: Mind) -> None:
    cat = mind.say("My cat is called Miso.")
    asyncio.run(whole_night(mind))
    roll = (mind.home, mind.journal, mind.base, mind.voice.swap, lambda: mind.now)
    asyncio.run(succession.rollback(*roll))
    mind.say("My dog is called Bruno.")
    mind.toy(unclaimed=[cat])
    night = asyncio.run(whole_night(mind))
    assert past.line(mind.journal, "gen-0002").lost == (), mind.report(night)["set_aside"]


# --- asking and grading ----------------------------------------------------------------------------------


def rows(due: bool = True) -> list[dict[str, Any]]:
    def made(number: int, prompt: str, reply: str, part: str) -> dict[str, object]:
        return {
            "dream": f"p1/d{number}", "kind": "question", "claim": f"claim {number}", "prompt": prompt,
            "reply": reply, "part": part,
        }

    samples = [
        made(0, "Who purrs?", "Miso.", "train"), made(1, "My cat?", "Miso.", "stop"),
        made(2, "Name my cat.", "Miso!", "stop"),
    ]
    return [{"id": "m1", "text": "My cat is called Miso.", "due": due, "near": ["m9"], "samples": samples}]


def test_a_memory_with_a_wrong_answer_is_weak() -> None:
    memories = rehearsal.known(rows(), set())
    engine = FakeEngine({"My cat?": "miso", "Name my cat.": "Rex."})
    reviews = rehearsal.review(engine, memories)
    assert engine.prompts == ["My cat?", "Name my cat."], "only what was never trained is asked"
    assert reviews == {"m1": (2, 1)}
    assert rehearsal.figures(reviews) == {"reviewed": 1, "recall_due": 0.5}
    [graded] = rehearsal.graded(memories, reviews)
    assert graded.weak and [row.dream for row in graded.train] == ["p1/d0"]
    assert not rehearsal.graded(memories, {"m1": (2, 2)})[0].weak


def test_what_is_not_due_is_not_asked_for() -> None:
    engine = FakeEngine()
    assert rehearsal.review(engine, rehearsal.known(rows(due=False), set())) == {}
    assert engine.asked == []


def test_what_a_newer_memory_overrides_is_not_rehearsed() -> None:
    assert rehearsal.known(rows(), {("m1", f"claim {n}") for n in range(3)}) == []
    [old] = rehearsal.known(rows(), {("m1", "claim 1")})
    assert [row.dream for row in (*old.train, *old.stop)] == ["p1/d0", "p1/d2"]


def test_replies_that_were_cut_off_hold_nothing_in_place() -> None:
    chats = [old.stop[0].messages[:1] for old in rehearsal.known(rows(), set())] * 2
    engine = FakeEngine({"My cat?": ["I do not know.", "word " * 60]})
    [row] = rehearsal.answered(engine, chats)
    assert (row.messages[-1].content, row.source, row.memories) == ("I do not know.", "self", ())


class Reader(FakeEngine):
    """Reads out where Anna lives, whatever it is asked, and is sure of that if it was asked that."""

    def __init__(self, replies: Replies | None = None) -> None:
        super().__init__(replies, sure=lambda prompt: float("live?" in prompt))

    def _complete(self, chat: Chat, most: int) -> Completion:
        read = len(chat) > 1 and "Anna lives in Lisbon" in chat[0].content
        return Completion("Lisbon.", 1, 1, True) if read else super()._complete(chat, most)


def aside(question: str, subject: str = "Anna") -> Aside:
    return Aside((Message("user", question),), subject)


def test_an_aside_is_held_unless_what_was_told_answers_it() -> None:
    asked = [
        aside("Where does Anna live?"), aside("How old is Anna?"), aside("How old is Ann?", "Ann"),
        aside("Sing, Anna."),
    ]
    engine = Reader({"Sing, Anna.": "la " * 60})
    told = {"Anna lives in Lisbon.": ("Where is Anna's home?",), "Otto lives in Oslo.": ()}
    held = rehearsal.unsaid(engine, asked, told, 0.5)
    assert [row.messages[0].content for row in held] == ["How old is Anna?"], (
        "what is told, whom nobody spoke of, and what is cut off are left out"
    )
    assert (held[0].source, held[0].kind, held[0].messages[1].content) == ("self", "aside", "I do not know.")
    assert not any("Otto" in chat[0].content for chat in engine.asked)
    assert rehearsal.unsaid(engine, [], told, 0.5) == []


def held(question: str) -> Sample:
    return Sample((Message("user", question), Message("assistant", "I do not know.")), "self")


def test_strayed_is_what_a_model_answers_otherwise() -> None:
    engine = FakeEngine({"My cat?": "Bruno."})
    found = rehearsal.strayed(engine, [held("My cat?"), held("My horse?")])
    assert found == [(held("My cat?"), "Bruno.")]
    assert rehearsal.strayed(engine, []) == []


def test_another_answer_that_its_memory_bears_out_is_true() -> None:
    def row(text: str, reply: str) -> dict[str, Any]:
        return {"text": text, "samples": [{"reply": reply}, {"reply": "Yes."}]}

    taught = rehearsal.answers([row("My dog is called Bruno.", "Bruno."), row("Bruno sings.", "bruno")])
    assert taught["bruno"] == {"My dog is called Bruno.", "Bruno sings."}
    given = [(held(asked), "Bruno!") for asked in ("My dog?", "My cat?")] + [(held("My horse?"), "Otto.")]
    engine = FakeEngine(sure=lambda prompt: 0.9 if "My dog?" in prompt else 0.1)
    assert rehearsal.borne_out(engine, given, taught, 0.5) == [held("My dog?")] * 2
    assert rehearsal.borne_out(engine, [], taught, 0.5) == []


def test_of_many_texts_those_that_are_asked_alike_may_answer_an_aside() -> None:
    told: dict[str, tuple[str, ...]] = {f"I saw {number} birds on my way.": () for number in range(40)}
    told = {"Since May my home is where Anna lives in Lisbon.": ("In which town do I live now?",), **told}
    asked = [aside("Say, in which town do I live?", USER), aside("How old am I?", USER)]
    held = rehearsal.unsaid(Reader(), asked, told, 0.5)
    assert [row.messages[0].content for row in held] == ["How old am I?"]


@pytest.mark.parametrize(
    ("text", "subject", "spoken"),
    [
        ("My dog is called Bruno.", USER, True), ("They gave it to me.", USER, True),
        ("I'm tired.", USER, True), ("Mia lives in Ikom.", USER, False),
        ("Ask my uncle.", "my uncle", True), ("Anna-Lena", "Anna", True), ("Annabel sings.", "Anna", False),
    ],
)  # fmt: skip
def test_whom_a_text_speaks_of(text: str, subject: str, spoken: bool) -> None:
    assert rehearsal.mentions(text, subject) == spoken


def test_old_claims_are_read_back_with_their_wishes() -> None:
    from ada_memory.circadian.heavy import past_readings

    [row] = rows()
    row["samples"] = [
        {**row["samples"][0], "claim": "Answer in rhyme", "kind": "style"},
        {**row["samples"][1], "claim": "The cat is Miso", "kind": "question"},
    ]
    claims = (Claim("Answer in rhyme", True), Claim("The cat is Miso", False))
    assert past_readings([row]) == {"m9": [Reading("m1", row["text"], claims)]}


def test_reviews_are_kept_once_a_night_and_in_the_order_of_nights(mind: Mind) -> None:
    cat = mind.say("My cat is called Miso.")
    for number in (2, 1):
        mind.journal.open_night(NightRecord(f"p{number}", "manual", NOON, 1, "gen-0000", 7)).result()
        mind.journal.record_reviews([Review(f"p{number}", cat, 2, number)]).result()
    mind.journal.record_reviews([Review("p1", cat, 9, 9)]).result()
    assert mind.journal.reviews() == [Review("p2", cat, 2, 2), Review("p1", cat, 2, 1)]
