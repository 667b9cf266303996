"""Dreams: what is read out of memories, what is dreamt of it, what the verifier lets through."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest

from ada_memory.dream import prompts, reading, rem, verifier
from ada_memory.dream.generator import DreamGenerator, Reading
from ada_memory.dream.prompts import Claim
from ada_memory.engines.engine import Completion, Sampling
from ada_memory.records import Chat, Dream, DreamKind, Read
from ada_memory.settings import DreamSettings
from tests.fake_engine import FakeEngine

DOG = Claim("My dog is called Bramble.")
SISTER = Claim("My sister Elna works as a glassblower.")
CAPTAIN = Claim("Call me Captain.", wish=True)
TEXTS = {
    "m1": "By the way, my dog is called Bramble. The tea is cold.",
    "m2": "My sister Elna works as a glassblower at 7 Mollen Street.",
}
ASKED = "What is my dog called?"
SETTINGS = DreamSettings()


def dream(
    prompt: str = ASKED,
    reply: str = "Bramble.",
    kind: DreamKind = "question",
    memories: tuple[str, ...] = ("m1",),
    **more: object,
) -> Dream:
    return replace(Dream("d00-00001", kind, memories, DOG.text, prompt, reply, 0), **more)  # type: ignore[arg-type]


# ---- yes ------------------------------------------------------------------------------------


def test_yes_weighs_both_answers() -> None:
    engine = FakeEngine(sure={"a": 0.9, "b": 0.5, "c": 0.0}.__getitem__)
    p = reading.yes(engine, [prompts.user(t) for t in "abc"])
    assert p == pytest.approx([0.9, 0.5, 0.0], abs=1e-5)
    assert reading.yes(engine, []) == []


# ---- reading --------------------------------------------------------------------------------


def read(reply: str) -> Reading:
    engine = FakeEngine({prompts.extract(TEXTS["m1"])[-1].content: reply})
    [reading] = DreamGenerator(engine, SETTINGS, 1).read([("m1", TEXTS["m1"])])
    return reading


def test_claims_made_of_the_memorys_own_words_are_read() -> None:
    assert read("- Fact: my Dog is called BRAMBLE!") == Reading(
        "m1", TEXTS["m1"], (Claim("my Dog is called BRAMBLE!"),)
    )


@pytest.mark.parametrize(
    "claim", ["My dog is called Bram.", "My cat is called Bramble.", "My dog is called Bramble-2."]
)
def test_a_claim_with_words_not_in_the_memory_is_dropped(claim: str) -> None:
    assert read(f"- Fact: {claim}\n- Fact: {DOG.text}").claims == (DOG,)


@pytest.mark.parametrize(
    "claim", ["My dog is called Bram.", "my god is called Bramble", "Dog is called Brambl"]
)
def test_a_claim_that_was_copied_wrong_is_put_in_the_memorys_words(claim: str) -> None:
    [found] = read(f"- Fact: {claim}").claims
    assert found.text in ("My dog is called Bramble.", "Dog is called Bramble.")


@pytest.mark.parametrize(
    "claim", ["The cat sleeps.", "My sister is away.", "Bramble.", "Cold water is wet and tea is not."]
)
def test_a_claim_of_other_words_is_no_copy(claim: str) -> None:
    assert all(c.text == claim for c in read(f"- Fact: {claim}").claims)


def test_a_copy_keeps_within_a_sentence_and_stays_a_wish() -> None:
    assert read("- Wish: Bramble the tea is told.").claims == (Claim("The tea is cold.", wish=True),)


def test_readings_stay_in_order_and_may_be_empty() -> None:
    engine = FakeEngine({prompts.extract(TEXTS["m2"])[-1].content: f"- Fact: {SISTER.text}"})
    readings = DreamGenerator(engine, SETTINGS, 1).read(list(TEXTS.items()))
    assert [(r.memory, r.claims) for r in readings] == [("m1", ()), ("m2", (SISTER,))]
    assert engine.samplings[0].temperature == 0


# ---- what a later memory overrides ----------------------------------------------------------

REX = Claim("My dog is called Rex.")


def superseded(
    readings: Sequence[tuple[str, Sequence[Claim]]],
) -> tuple[dict[tuple[str, str], str], list[str]]:
    """What was found by an engine that says Yes, and the questions that it was asked."""
    engine = FakeEngine()
    found = DreamGenerator(engine, SETTINGS, 1).superseded([Reading(m, "", tuple(c)) for m, c in readings])
    return found, list(dict.fromkeys(chat[-1].content for chat in engine.scored))


def test_an_old_claim_is_superseded_by_a_newer_memory() -> None:
    found, asked = superseded([("m1", [DOG]), ("m2", [REX])])
    assert found == {("m1", DOG.text): "m2"}
    assert asked == [prompts.supersede(DOG.text, REX.text)[-1].content]


def test_claims_of_one_memory_do_not_supersede_each_other() -> None:
    assert superseded([("m1", [DOG, REX])]) == ({}, [])


def test_unrelated_claims_are_not_compared() -> None:
    assert superseded([("m1", [DOG]), ("m2", [Claim("I live in Marrowick.")])]) == ({}, [])


def test_a_wish_does_not_supersede_a_fact() -> None:
    assert superseded([("m1", [DOG]), ("m2", [Claim("Call my dog Sir.", wish=True)])]) == ({}, [])


def test_only_the_claim_that_is_changed_is_superseded() -> None:
    changed = prompts.supersede(DOG.text, REX.text)[-1].content
    engine = FakeEngine(sure=lambda prompt: 0.9 if prompt == changed else 0.5)
    readings = [Reading("m1", "", (DOG, SISTER)), Reading("m2", "", (Claim("My sister is Elna."), REX))]
    assert DreamGenerator(engine, SETTINGS, 1).superseded(readings) == {("m1", DOG.text): "m2"}


CARD = Claim("The library knows my sister by card 7.")
ELNA = Claim("My sister is called Elna.")
MAJOR = Claim("Call me Major.", wish=True)
BRIEF = Claim("When I call, answer in one word.", wish=True)


class Reader(FakeEngine):
    """Says `said` with one memory before the question, `both` with two, and knows nothing without."""

    def __init__(
        self, said: str, both: str, replies: Mapping[str, str], sure: Callable[[str], float]
    ) -> None:
        super().__init__(replies, sure)
        self._said = {1: said, 2: both}

    def generate(self, chats: Sequence[Chat], sampling: Sampling) -> list[Completion]:
        replies = super().generate(chats, sampling)
        read = [self._said.get(chat[0].content.count("\n- "), "") for chat in chats]
        return [
            replace(reply, text=text) if len(chat) > 1 else reply
            for chat, reply, text in zip(chats, replies, read, strict=True)
        ]


@pytest.mark.parametrize(
    ("older", "newer", "said", "both", "true", "given_up"),
    [
        (CARD, ELNA, "I do not know.", "7.", 1.0, False),  # what is said without it, too
        (CARD, ELNA, "Elna.", "7.", 0.2, False),  # read out of it, but no answer
        (CARD, Claim("My sister has card 7 still."), "7.", "7.", 1.0, False),
        (CARD, Claim("My sister has card 8 now."), "8.", "8.", 1.0, True),
        (CARD, Claim("My sister has card 8 now."), "8.", "7.", 1.0, True),  # of facts it may choose the older
        (CAPTAIN, MAJOR, "Major.", "Major.", 1.0, True),
        (CAPTAIN, BRIEF, "One word.", "7.", 1.0, False),
    ],
)
def test_an_old_claim_goes_only_if_the_new_one_answers_its_questions(
    older: Claim, newer: Claim, said: str, both: str, true: float, given_up: bool
) -> None:
    sample = prompts.sample_text("Which is it?", "7.")
    asks, checks = prompts.dream("question", [older]), prompts.verify([newer.text], "Which is it?", said)

    def sure(prompt: str) -> float:
        return true if prompt == checks[-1].content else float(not older.wish)

    engine = Reader(said, both, {asks[-1].content: sample}, sure)
    readings = [Reading("m1", "", (older,)), Reading("m2", "", (newer,))]
    found = DreamGenerator(engine, SETTINGS, 1).superseded(readings)
    assert found == ({("m1", older.text): "m2"} if given_up else {})


class Library(FakeEngine):
    """Each claim's question, and what the other claim is read to answer to it."""

    def __init__(self, asks: Mapping[str, tuple[str, str]], reads: Mapping[str, str]) -> None:
        made = {
            prompts.dream("question", [Claim(claim)])[-1].content: prompts.sample_text(*sample)
            for claim, sample in asks.items()
        }
        super().__init__(made, lambda _: 1.0)
        self._reads = reads

    def generate(self, chats: Sequence[Chat], sampling: Sampling) -> list[Completion]:
        replies = super().generate(chats, sampling)
        read = [self._reads.get(chat[-1].content, "I do not know.") for chat in chats]
        return [
            replace(reply, text=text) if len(chat) > 1 else reply
            for chat, reply, text in zip(chats, replies, read, strict=True)
        ]


@pytest.mark.parametrize(("back", "given_up"), [("R8-95.", True), ("I do not know.", False)])
def test_a_number_that_answers_for_another_is_no_change_unless_that_answers_for_it(
    back: str, given_up: bool
) -> None:
    card, shirt = Claim("My library card number is R8-95."), Claim("My shirt has the number 56 on the back.")
    asks = {card.text: ("Which number is on it?", "R8-95."), shirt.text: ("Which number do I wear?", "56.")}
    engine = Library(asks, {"Which number is on it?": "56.", "Which number do I wear?": back})
    readings = [Reading("m1", "", (card,)), Reading("m2", "", (shirt,))]
    found = DreamGenerator(engine, SETTINGS, 1).superseded(readings)
    assert found == ({("m1", card.text): "m2"} if given_up else {})


@pytest.mark.parametrize(("sure", "given_up"), [(0.9, True), (0.1, False)])
def test_of_a_wish_that_cannot_be_asked_about_the_first_word_stands(sure: float, given_up: bool) -> None:
    readings = [Reading("m1", "", (CAPTAIN,)), Reading("m2", "", (MAJOR,))]
    found = DreamGenerator(FakeEngine(sure=lambda _: sure), SETTINGS, 1).superseded(readings)
    assert bool(found) is given_up


# ---- bursts and bridges ---------------------------------------------------------------------


def kinds(claim: Claim, cycle: int, size: int) -> list[str]:
    made = DreamGenerator(FakeEngine(), SETTINGS, 1).burst([("m1", claim)], cycle, size)
    return [d.kind for d in made]


def test_a_burst_has_every_kind_and_half_of_it_questions() -> None:
    assert Counter(kinds(DOG, 0, 8)) == {"question": 4, "statement": 1, "reversal": 1, "choice": 1, "rule": 1}
    assert Counter(kinds(CAPTAIN, 0, 8)) == {"style": 5, "question": 1, "statement": 1, "rule": 1}


def test_small_bursts_come_round_to_every_kind() -> None:
    seen = [kind for cycle in range(4) for kind in kinds(DOG, cycle, 2)]
    assert seen == kinds(DOG, 0, 8)


def test_dreams_carry_sample_claim_and_cycle() -> None:
    engine = FakeEngine(
        {prompts.dream("question", [DOG])[-1].content: prompts.sample_text(ASKED, "Bramble.")}
    )
    made = DreamGenerator(engine, SETTINGS, 7).burst([("m1", DOG)], 2, 6)
    good, bad = ([d for d in made if (d.kind == "question") is want] for want in (True, False))
    assert {(d.prompt, d.reply, d.reason) for d in good} == {(ASKED, "Bramble.", "")}
    assert {(d.prompt, d.reason) for d in bad} == {("", "unreadable")}
    assert {(d.memories, d.claim, d.cycle, d.accepted) for d in made} == {(("m1",), DOG.text, 2, False)}
    assert len({d.id for d in made}) == 6


def test_a_sample_that_was_cut_off_is_unreadable() -> None:
    long = prompts.sample_text(ASKED, " ".join(["Bramble"] * 100))
    engine = FakeEngine({prompts.dream("question", [DOG])[-1].content: long})
    [made] = DreamGenerator(engine, SETTINGS, 1).burst([("m1", DOG)], 0, 1)
    assert made.reason == "unreadable"
    assert prompts.read_sample(made.reply)


def test_each_cycle_is_drawn_with_a_seed_of_its_own() -> None:
    engine = FakeEngine()
    generator = DreamGenerator(engine, SETTINGS, 5)
    rem.dreamt(generator, [("m1", DOG)], 3, lambda *_: None)
    drawn = [s for s in engine.samplings if s.temperature]
    assert {(s.temperature, s.min_p) for s in drawn} == {(SETTINGS.temperature, SETTINGS.min_p)}
    assert len({s.seed for s in drawn}) == 3


def test_a_cycle_of_many_memories_is_told_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rem, "PART", 16)
    settings = SETTINGS.model_copy(update={"burst": 8, "bridges": 2})
    claims = [(f"m{n}", Claim(f"The dog of house {n} is called Rex.")) for n in range(5)]
    engine, told = FakeEngine(), list[tuple[int, int, str]]()
    made = rem.dreamt(DreamGenerator(engine, settings, 1), claims, 2, lambda *at: told.append(at))
    assert [done for done, *_ in told] == [16, 32, 40, 42, 58, 74, 82, 84]
    assert {total for _, total, _ in told} == {len(made)}
    assert told[-1][2] == "REM cycle 2 of 2"
    assert len({s.seed for s in engine.samplings}) == len(told), "each part is drawn for itself"
    assert len({d.id for d in made}) == len(made)


def test_bridges_join_facts_of_two_memories() -> None:
    claims = [("m1", DOG), ("m1", REX), ("m2", SISTER), ("m3", CAPTAIN)]
    made = DreamGenerator(FakeEngine(), SETTINGS, 1).bridges(claims, 0, 20)
    assert made
    assert {d.kind for d in made} == {"bridge"}
    assert {frozenset(d.memories) for d in made} == {frozenset({"m1", "m2"})}
    assert all(SISTER.text in d.claim.split("\n") for d in made)


def test_bridges_prefer_distant_memories() -> None:
    claims = [("m1", DOG), ("m2", REX), ("m3", Claim("Tovin lives in Marrowick."))]
    made = DreamGenerator(FakeEngine(), SETTINGS, 1).bridges(claims, 0, 30)
    assert sum("m3" in d.memories for d in made) > 0.9 * len(made)


@pytest.mark.parametrize("claims", [[], [("m1", DOG), ("m1", REX)], [("m1", DOG), ("m2", CAPTAIN)]])
def test_there_is_no_bridge_within_one_memory(claims: list[tuple[str, Claim]]) -> None:
    engine = FakeEngine()
    assert DreamGenerator(engine, SETTINGS, 1).bridges(claims, 0, 4) == []
    assert engine.asked == []


def test_a_night_is_dreamt_again_the_same() -> None:
    claims = [("m1", DOG), ("m2", SISTER), ("m3", Claim("Tovin lives in Marrowick."))]

    def night(seed: int) -> list[Dream]:
        return rem.dreamt(DreamGenerator(FakeEngine(), SETTINGS, seed), claims, 2, lambda *_: None)

    assert night(1) == night(1)
    assert any(night(1) != night(seed) for seed in range(2, 6))


# ---- the verifier ---------------------------------------------------------------------------


def judged(
    made: Dream, answers: Mapping[str, str] | None = None, sure: float = 0.8, accept: float = 0.5
) -> Dream:
    engine = FakeEngine(
        {made.prompt: made.reply} if answers is None else answers,
        sure=lambda _: sure,
    )
    [out] = verifier.verify(engine, [made], TEXTS, DreamSettings(accept=accept))
    return out


def test_a_true_dream_is_accepted_with_its_score() -> None:
    out = judged(dream(reason="old"), sure=0.8)
    assert (out.accepted, out.reason) == (True, "")
    assert out.score == pytest.approx(0.8, abs=1e-5)


def test_a_name_that_is_not_in_the_memory_is_refused() -> None:
    out = judged(dream(reply="It is Rex."), sure=1.0)
    assert (out.accepted, out.score, out.reason) == (False, 0.0, "not in the memory: Rex")


@pytest.mark.parametrize(
    ("reply", "again"), [("Bramlet.", "Bramton."), ("Bramble.", "Bramlet."), ("Bramlet.", "Bramble.")]
)
def test_a_name_that_was_copied_wrong_is_put_right(reply: str, again: str) -> None:
    out = judged(dream(reply=reply), {ASKED: again})
    assert (out.accepted, out.reply) == (True, "Bramble.")


@pytest.mark.parametrize(
    ("prompt", "reply", "claim"),
    [
        (ASKED, "Rex.", "My dog is called Bramble."),  # begins otherwise: made up, not copied
        ("Is Bramble called Bramlet?", "Bramlet.", "My dog is called Bramble."),  # the name is spoken of
        (ASKED, "Bramlet.", "My dogs are called Bramble and Bramley."),  # which one is meant?
        (ASKED, "It is Bramlet or Bramton.", "My dog is called Bramble."),
        (ASKED, "brambling.", "My dog is called Bramble."),
    ],
)  # fmt: skip
def test_what_may_be_no_copy_is_left_as_it_is(prompt: str, reply: str, claim: str) -> None:
    assert judged(dream(prompt, reply, claim=claim)).reply == reply


def test_a_dream_that_the_memory_answers_otherwise_is_refused() -> None:
    out = judged(dream(reply="tea."), {ASKED: "Bramble."}, sure=1.0)
    assert (out.accepted, out.score, out.reason) == (False, 0.0, "the memory answers: Bramble.")


def test_a_dream_that_the_model_does_not_believe_is_refused() -> None:
    out = judged(dream(), sure=0.49)
    assert (out.accepted, out.reason) == (False, "the verifier says no")
    assert out.score == pytest.approx(0.49, abs=1e-5)


def test_the_threshold_itself_is_enough() -> None:
    assert judged(dream(), sure=0.5, accept=0.5).accepted
    assert not judged(dream(), sure=0.5, accept=0.6).accepted


def test_a_dream_without_a_prompt_is_unreadable() -> None:
    out = judged(dream(prompt="", reply="Bramble?"), sure=1.0)
    assert (out.accepted, out.score, out.reason) == (False, 0.0, "unreadable")


def test_answers_are_compared_without_case_and_full_stops() -> None:
    assert judged(dream(), {ASKED: "bramble"}).accepted
    assert not judged(dream(), {ASKED: "Bramble, I think."}).accepted


@pytest.mark.parametrize("kind", ["question", "reversal", "choice", "style", "bridge"])
def test_kinds_with_one_right_answer_are_asked_again(kind: DreamKind) -> None:
    assert not judged(dream(kind=kind), {}).accepted


@pytest.mark.parametrize("kind", ["statement", "rule"])
def test_kinds_with_many_right_answers_are_not_asked_again(kind: DreamKind) -> None:
    made = dream("Tell me about my dog.", "Your dog is called Bramble.", kind)
    assert judged(made, {}).accepted


def test_the_question_is_asked_with_the_memories_in_front() -> None:
    engine = FakeEngine({ASKED: "Bramble."})
    verifier.verify(engine, [dream(kind="bridge", memories=("m1", "m2"))], TEXTS, SETTINGS)
    assert engine.asked == [prompts.recall(list(TEXTS.values()), ASKED)]
    assert engine.scored[0] == prompts.verify(list(TEXTS.values()), ASKED, "Bramble.")


def test_verdicts_go_to_their_own_dreams() -> None:
    refused = prompts.verify([TEXTS["m2"]], "Where does Elna work?", "7 Mollen Street.")[-1].content
    engine = FakeEngine(
        {ASKED: "Bramble.", "Where does Elna work?": "7 Mollen Street."},
        sure=lambda prompt: 0.1 if prompt == refused else 0.9,
    )
    made = [
        dream(id="a"),
        dream("", "?", id="b"),
        dream("Where does Elna work?", "7 Mollen Street.", memories=("m2",), id="c"),
        dream("Is it Rex?", id="d"),
    ]
    out = verifier.verify(engine, made, TEXTS, SETTINGS)
    assert [(d.id, d.accepted) for d in out] == [("a", True), ("b", False), ("c", False), ("d", False)]
    assert verifier.verify(engine, [], TEXTS, SETTINGS) == []


@pytest.mark.parametrize(
    ("made", "found"),
    [
        (dream(), set()),
        (dream("Is my dog called Bramble?", "Yes."), set()),
        (dream("Rex is called what?", "Bramble."), set()),  # a capital that starts a sentence is no name
        (dream("Well. Rex: Rex?", "Bramble."), set()),
        (dream("What is Rex called?", "Bramble."), {"Rex"}),
        (dream("What is Rex's dog called?", "Bramble."), {"Rex's"}),
        (dream("What is Bramble's name?", "Bramble."), set()),
        (dream("What am I, and what is Ada?", "Bramble."), set()),
        (dream("How old is Bramble?", "3."), {"3"}),
        (dream("Where does Elna work?", "At 7 Mollen Street.", memories=("m2",)), set()),
        (dream("Where does Elna work?", "At 7 Mollen.", memories=("m1",)), {"Elna", "7", "Mollen"}),
        (dream("Is it Rex or Bramble?", "Bramble.", "choice"), set()),
        (dream("Is it Rex or Bramble?", "It is Rex.", "choice"), {"Rex"}),
        (dream("Hello Rex!", "Hello, Bramble.", "style"), set()),
        (dream("Is it Bram?", "Bramble."), {"Bram"}),
        (dream(reply="Rex."), {"Rex"}),  # a word that is all of an answer starts nothing
        (dream(reply="Bramble"), set()),
        (dream("Is it Rex or Bramble?", "Rex.", "choice"), {"Rex"}),
        (dream("Who has a dog called Bramble?", "You.", "reversal"), set()),
        (dream("Good day!", "Hello.", "style"), set()),
    ],
)  # fmt: skip
def test_strays_are_names_and_numbers_of_no_memory(made: Dream, found: set[str]) -> None:
    assert verifier.strays(made, [TEXTS[m] for m in made.memories]) == found


# ---- rewriting ------------------------------------------------------------------------------


def mend(made: Dream, reply: str) -> list[Dream]:
    chat = prompts.rewrite([TEXTS[m] for m in made.memories], made.prompt, made.reply)
    return verifier.rewrite(FakeEngine({chat[-1].content: reply}), [made], TEXTS)


def test_a_failed_dream_is_put_right() -> None:
    wrong = dream(reply="Rex.", score=0.0, reason="the memory answers: Bramble.")
    [mended] = mend(wrong, prompts.sample_text(ASKED, "Bramble."))
    assert mended == dream(id="d00-00001r1", attempt=1, reads=(Read("m1", "rewriter"),))
    [again] = mend(replace(mended, reply="Rex."), prompts.sample_text(ASKED, "Bramble."))
    assert (again.id, again.attempt) == ("d00-00001r2", 2)


def test_what_cannot_be_put_right_is_left_out() -> None:
    assert mend(dream(reply="Rex."), "I do not know.") == []
    assert mend(dream(reply="Rex."), prompts.sample_text(ASKED, "Rex.")) == []


@pytest.mark.parametrize("made", [dream(prompt=""), dream(kind="bridge", memories=("m1", "m2"))])
def test_only_readable_failures_are_rewritten(made: Dream) -> None:
    assert mend(made, prompts.sample_text(ASKED, "Rex.")) == []


# ---- the loop -------------------------------------------------------------------------------


def loop(
    engine: FakeEngine, made: Sequence[Dream], claims: rem.Claims = (), **settings: object
) -> list[Dream]:
    chosen = SETTINGS.model_copy(update=settings)
    return rem.verified(
        DreamGenerator(engine, chosen, 1), made, claims, TEXTS, lambda _: None, lambda *_: None
    )


def stubborn(wrong: int = 9) -> FakeEngine:
    """Always mends a dream into the next wrong one."""
    replies = {
        prompts.rewrite([TEXTS["m1"]], ASKED, f"Wrong {i}.")[-1].content: prompts.sample_text(
            ASKED, f"Wrong {i + 1}."
        )
        for i in range(wrong)
    }
    return FakeEngine(replies)


@pytest.mark.parametrize("rewrites", [0, 1, 3])
def test_rewriting_stops(rewrites: int) -> None:
    engine = stubborn()
    out = loop(engine, [dream(reply="Wrong 0.")], rewrites=rewrites)
    assert [d.attempt for d in out] == list(range(rewrites + 1))
    assert not any(d.accepted for d in out)
    assert sum("Going only by the message, write" in p for p in engine.prompts) == rewrites


def test_a_mended_dream_counts() -> None:
    wrong = dream(reply="Rex.")
    chat = prompts.rewrite([TEXTS["m1"]], ASKED, "Rex.")
    engine = FakeEngine({chat[-1].content: prompts.sample_text(ASKED, "Bramble."), ASKED: "Bramble."})
    out = loop(engine, [wrong], rewrites=2)
    assert [(d.attempt, d.accepted) for d in out] == [(0, False), (1, True)]
    figures = rem.figures(out, 1)
    assert (figures["rewritten"], figures["rewritten_accepted"], figures["accepted"]) == (1, 1, 1)


def test_duplicates_count_once() -> None:
    twins = [dream(id="a"), dream("what is  my DOG called?", "bramble.", id="b"), dream(id="c")]
    out = loop(FakeEngine({ASKED: "Bramble."}), twins, rewrites=0)
    assert [(d.id, d.accepted, d.reason) for d in out] == [
        ("a", True, ""),
        ("b", False, "duplicate"),
        ("c", False, "duplicate"),
    ]


def test_one_sample_of_two_memories_is_no_duplicate() -> None:
    told = dream("Tell me more.", "There is tea.", "statement")
    out = loop(FakeEngine(), [told, replace(told, id="b", memories=("m2",))], rewrites=0)
    assert [d.accepted for d in out] == [True, True]


def test_a_rewrite_into_what_is_there_already_is_a_duplicate() -> None:
    chat = prompts.rewrite([TEXTS["m1"]], ASKED, "Rex.")
    engine = FakeEngine({chat[-1].content: prompts.sample_text(ASKED, "Bramble."), ASKED: "Bramble."})
    out = loop(engine, [dream(id="a"), dream(reply="Rex.", id="b")], rewrites=1)
    assert [(d.accepted, d.reason) for d in out][-1] == (False, "duplicate")
    assert sum(d.accepted for d in out) == 1


def test_duplicates_are_not_rewritten() -> None:
    engine = FakeEngine({ASKED: "Bramble."})
    loop(engine, [dream(id="a"), dream(id="b")], rewrites=1)
    assert not [p for p in engine.prompts if "Going only by the message, write" in p]


def test_memories_with_too_few_dreams_are_dreamt_of_again() -> None:
    engine = FakeEngine({ASKED: "Bramble."})
    rich = [
        dream(f"Tell me {'more ' * i}of tea.", "There is tea.", "statement", id=f"r{i}")
        for i in range(rem.ENOUGH)
    ]
    thin = dream("Who is Elna?", "She works.", "statement", ("m2",), id="t")
    out = loop(engine, [*rich, thin], [("m1", DOG), ("m2", SISTER)], rewrites=1, cycles=4, burst=3)
    again = out[len(rich) + 1 :]
    assert [(d.memories, d.cycle, d.attempt) for d in again] == [(("m2",), 4, 0)] * 3
    assert all(d.accepted for d in out[: len(rich) + 1])


TOLD = dream("Tell me of my dog.", "Bramble is the name of my dog.", "statement", id="told")


def misread(reply: str) -> FakeEngine:
    """Says No to what is asked of the memory itself, and answers every question with `reply`."""
    return FakeEngine(
        {ASKED: reply}, lambda prompt: 0.0 if ASKED in prompt and TEXTS["m1"] in prompt else 0.9
    )


def test_a_question_refused_for_its_memorys_wording_holds_by_a_retelling() -> None:
    shown: list[Dream] = []
    generator = DreamGenerator(misread("Bramble."), SETTINGS.model_copy(update={"rewrites": 0}), 1)
    out = rem.verified(generator, [dream(), TOLD], [], TEXTS, shown.append, lambda *_: None)
    assert [(d.id, d.accepted, d.reason) for d in out] == [("d00-00001", True, ""), ("told", True, "")]
    assert out[0].reads == (Read("m1", "verifier"),)
    assert [(d.id, d.accepted) for d in shown][-1] == ("d00-00001", True)


def test_a_retelling_does_not_make_a_wrong_answer_right() -> None:
    out = loop(misread("Bramble."), [dream(reply="dog."), TOLD], rewrites=0)
    assert [d.accepted for d in out] == [False, True]


def test_a_refused_statement_tells_nothing() -> None:
    engine = FakeEngine({ASKED: "Bramble."}, lambda prompt: 0.9 if "Message: Bramble is" in prompt else 0.0)
    out = loop(engine, [dream(), TOLD], rewrites=0)
    assert not any(d.accepted for d in out)


def test_a_memory_with_questions_enough_is_not_judged_again() -> None:
    rich = [dream(f"What {'ever ' * i}is it called?", "Bramble.", id=f"r{i}") for i in range(rem.ENOUGH)]
    engine = FakeEngine(
        {d.prompt: d.reply for d in (*rich, dream())},
        lambda prompt: 0.0 if ASKED in prompt and TEXTS["m1"] in prompt else 0.9,
    )
    out = loop(engine, [*rich, TOLD, dream()], rewrites=0)
    assert [d.accepted for d in out] == [True] * (rem.ENOUGH + 1) + [False]


def test_every_verdict_is_shown_and_counted() -> None:
    shown: list[Dream] = []
    told: list[tuple[int, int, str]] = []
    made = [dream(f"Tell me {'more ' * i}.", "There is tea.", "statement", id=f"d{i}") for i in range(200)]
    generator = DreamGenerator(FakeEngine(), SETTINGS.model_copy(update={"rewrites": 0}), 1)
    rem.verified(generator, made, [], TEXTS, shown.append, lambda *step: told.append(step))
    assert [d.id for d in shown] == [d.id for d in made]
    assert [(done, total) for done, total, _ in told] == [(128, 200), (200, 200)]


def ranked(
    kinds_: Sequence[DreamKind], each: int, memory: str = "m1"
) -> tuple[list[Dream], Callable[[str], float]]:
    """Statements of several kinds, the later the surer, and an engine's belief in them."""
    made = [
        dream(f"{kind} {'very ' * i}please.", "tea.", kind, (memory,), id=f"{memory}-{kind}-{i}")
        for kind in kinds_
        for i in range(each)
    ]
    return made, lambda prompt: 0.6 + 0.05 * prompt.count("very ")


def test_the_best_dreams_are_kept_with_kinds_taking_turns() -> None:
    made, sure = ranked(("question", "statement", "reversal", "rule"), 6)
    others, _ = ranked(("rule",), 3, "m2")
    engine = FakeEngine({d.prompt: d.reply for d in made}, sure)
    texts = {"m1": "tea", "m2": "tea"}
    settings = DreamSettings(samples_per_memory=8, rewrites=0)
    out = rem.verified(
        DreamGenerator(engine, settings, 1), [*made, *others], [], texts, lambda _: None, lambda *_: None
    )
    kept = [d for d in out if d.accepted and d.memories == ("m1",)]
    by_kind = Counter(d.kind for d in kept)
    assert len(kept) == 8
    assert by_kind["question"] >= 3
    assert min(by_kind[kind] for kind in ("statement", "reversal", "rule")) >= 1
    for kind, count in by_kind.items():
        assert {d.id for d in kept if d.kind == kind} == {f"m1-{kind}-{5 - i}" for i in range(count)}
    assert {d.reason for d in out if not d.accepted} == {"enough of this memory"}
    assert sum(d.accepted for d in out if d.memories == ("m2",)) == 3


def test_fewer_dreams_than_wanted_are_all_kept() -> None:
    made, sure = ranked(("statement", "rule"), 3)
    texts = {"m1": "tea"}
    settings = DreamSettings(samples_per_memory=8, rewrites=0)
    generator = DreamGenerator(FakeEngine(sure=sure), settings, 1)
    out = rem.verified(generator, made, [], texts, lambda _: None, lambda *_: None)
    assert all(d.accepted for d in out)


def test_a_dream_knows_what_was_put_before_verifier_and_rewriter() -> None:
    chat = prompts.rewrite([TEXTS["m1"]], ASKED, "Rex.")
    engine = FakeEngine({chat[-1].content: prompts.sample_text(ASKED, "Bramble."), ASKED: "Bramble."})
    bridge = dream("What do both know?", "7.", "bridge", ("m1", "m2"), id="b")
    twin = dream(id="t", reply="Rex.")
    out = loop(engine, [dream(reply="Rex."), twin, dream(prompt="", id="u"), bridge], rewrites=1)
    by_id = {d.id: d for d in out}
    assert by_id["d00-00001"].reads == (Read("m1", "verifier"),)
    assert by_id["d00-00001r1"].reads == (Read("m1", "rewriter"), Read("m1", "verifier"))
    assert by_id["b"].reads == (Read("m1", "verifier"), Read("m2", "verifier"))
    assert (by_id["t"].reason, by_id["t"].reads) == ("duplicate", ()), "no prompt was made of a duplicate"
    assert (by_id["u"].reason, by_id["u"].reads) == ("unreadable", ())


# ---- figures --------------------------------------------------------------------------------


def test_lucidity_is_the_share_of_true_dreams_of_each_cycle() -> None:
    made = [
        dream(cycle=0, accepted=True),
        dream(cycle=0, reason="the memory answers: Rex."),
        dream(cycle=0, reason="the memory answers: Lupo."),
        dream(cycle=0, reason="enough of this memory", kind="rule"),
        dream(cycle=0, reason="duplicate"),
        dream(cycle=0, accepted=True, attempt=1),
        dream(cycle=1, accepted=True, kind="rule"),
        dream(cycle=3, accepted=True),  # dreamt again after the last cycle
    ]
    figures = rem.figures(made, 3)
    assert figures["lucidity"] == [0.5, 1.0, 0.0]
    assert (figures["made"], figures["accepted"]) == (8, 4)
    assert figures["rejected"] == {"the memory answers": 2, "duplicate": 1}
    assert figures["spare"] == 1, "every dream is accounted for"
    assert figures["by_kind"] == {"question": 3, "rule": 1}


def test_figures_of_no_dreams() -> None:
    figures = rem.figures([], 2)
    assert (figures["made"], figures["accepted"], figures["lucidity"]) == (0, 0, [0.0, 0.0])
