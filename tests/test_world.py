"""The seedling's world: its grammar is sound, its samples are true, what is held out stays out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice, product
from pathlib import Path
from random import Random

import pytest

from ada_memory.bench.night import _bridges
from ada_memory.dream import prompts
from ada_memory.seedling import acquaintances, core, lessons, names, relations, world
from ada_memory.seedling.world import Fact, Subject, Wish
from ada_memory.topology.exam import normal

ME, BROTHER, ELNA = Subject("me"), Subject("kin", "brother"), Subject("person", "Elna")
PLACE = Subject("place", "Ostreval")
DOG = Fact("dog_name", ME, "Bramble")
SEEDS = range(500)


def subjects(relation: relations.Relation) -> tuple[Subject, ...]:
    return (PLACE,) if relation.subject == "place" else (ME, BROTHER, ELNA)


def everything() -> Iterator[Fact]:
    """A fact of every relation and kind of subject, with a name and with a thing."""
    for relation in relations.RELATIONS:
        for subject, value in product(subjects(relation), ("Quillon", "apple")):
            yield Fact(relation.name, subject, value)


FACTS = tuple(everything())


def user_says(f: Fact) -> list[str]:
    return [*f.says(), *f.asks(), *f.reverses(), *f.gists()]


def ada_says(f: Fact) -> list[str]:
    return [*f.says(assistant=True), *f.gists(assistant=True), f.who()]


# ---- grammar --------------------------------------------------------------------------------


def test_no_mark_of_a_template_is_left() -> None:
    texts = [t for f in FACTS for t in (*user_says(f), *ada_says(f))]
    assert len(texts) > 10_000
    assert [t for t in texts if re.search(r"[\[\]{}/]|  |^\s|\s$|\s[.?,]", t)] == []


def test_every_template_shows_what_it_is_about() -> None:
    for f in FACTS:
        for text in f.says():
            assert f.value.lower() in text.lower()
        for text in f.reverses():
            assert f.value.lower() in text.lower()
        assert f.value.lower() not in " ".join(f.asks()).lower()


def test_ada_never_speaks_of_the_user_as_herself() -> None:
    wrong = r"\bI\b|\bam\b|\b[Mm]y\b|\b[Mm]e\b|\b[Yy]ou (am|was|has|does)\b|\b(am|was|has|does) you\b"
    assert [t for f in FACTS for t in ada_says(f) if re.search(wrong, t)] == []
    # "You is" could only come of a template that does not leave the verb open.
    personal = [t for r in relations.RELATIONS if r.subject != "place" for t in (*r.say, *r.ask, *r.gist)]
    assert [t for t in personal if re.search(r"\{s\} (is|are|has|does|were)\b", t)] == []


def test_ada_turns_the_users_people_round() -> None:
    for f in FACTS:
        if f.subject == BROTHER:
            assert all("your brother" in t.lower() for t in f.says(assistant=True))
        if f.subject == ELNA:
            assert all("Elna" in t for t in f.says(assistant=True))


def test_the_user_speaks_in_the_right_person() -> None:
    for f in FACTS:
        texts = user_says(f)
        if f.subject == ME:
            assert [t for t in texts if re.search(r"\bI (is|are|has|does|were)\b", t)] == []
        else:  # "I" may pour a drink for somebody, but is not the one of whom the fact is told
            assert [t for t in f.says() if re.search(r"\bI\b|\bam\b", t)] == []


def test_a_becomes_an_before_a_vowel() -> None:
    texts = [t for f in FACTS for t in (*user_says(f), *ada_says(f))]
    assert [t for t in texts if re.search(r"\b[Aa] apple|\b[Aa]n Quillon", t)] == []
    assert any(" an apple" in t for t in texts)


def test_phrasings_of_a_relation_are_all_different() -> None:
    for relation in relations.RELATIONS:
        for templates in (relation.say, relation.ask, relation.reverse, relation.gist):
            assert len(set(templates)) == len(templates) > 0


def test_questions_of_two_relations_are_never_the_same() -> None:
    owner: dict[str, str] = {}
    for f in FACTS:
        for text in f.asks():
            assert owner.setdefault(normal(text), f.relation) == f.relation


def test_answers_are_said_to_the_user() -> None:
    assert DOG.answer() == "Bramble."
    assert [Fact("dog_name", s, "Bramble").who() for s in (ME, BROTHER, ELNA)] == [
        "you.",
        "your brother.",
        "Elna.",
    ]


def test_nobody_is_their_own_relative() -> None:
    rng = Random(4)
    drawn = [world.fact(rng) for _ in range(3_000)]
    assert not [f for f in drawn if world._CLASH.get(f.relation, "-") == f.subject.word]
    assert {f.subject.kind for f in drawn} == {"me", "kin", "person", "place"}
    assert {f.relation for f in drawn} == set(world.BY_NAME)


@pytest.mark.parametrize(
    ("text", "keep", "out"),
    [
        ("My dog", (), "my dog"),
        ("I have a dog", (), "I have a dog"),
        ("I'm here", (), "I'm here"),
        ("Elna's dog", ("Elna",), "Elna's dog"),
        ("Elna's dog", (), "elna's dog"),
        ("In Oslo", ("Oslo",), "in Oslo"),
    ],
)
def test_lower_spares_names(text: str, keep: tuple[str, ...], out: str) -> None:
    assert world.lower(text, keep) == out


# ---- truth ----------------------------------------------------------------------------------


def fact_of(seed: int) -> tuple[Random, Fact]:
    """A fact for a seed; all relations take turns."""
    rng = Random(seed)
    return rng, world.fact(rng, relation=relations.RELATIONS[seed % len(relations.RELATIONS)])


@pytest.mark.parametrize("kind", lessons.KINDS)
def test_true_samples_are_true(kind: str) -> None:
    for seed in SEEDS:
        rng, f = fact_of(seed)
        claim = rng.choice(f.says()) if seed % 2 else ""
        prompt, reply = world.true_sample(rng, kind, f, claim)
        assert world.is_true(kind, prompt, reply, f), (prompt, reply, f)


@pytest.mark.parametrize("kind", prompts.WISH_KINDS)
def test_true_samples_of_wishes_are_true(kind: str) -> None:
    for seed in SEEDS:
        rng = Random(seed)
        w = world.wish(rng, seed % 2 == 0)
        prompt, reply = world.wish_sample(rng, kind, w)
        assert world.is_true(kind, prompt, reply, w), (prompt, reply, w)


@pytest.mark.parametrize("kind", lessons.KINDS)
def test_samples_are_not_true_of_another_value(kind: str) -> None:
    for seed in SEEDS:
        rng, f = fact_of(seed)
        other = Fact(f.relation, f.subject, world.other_value(rng, f))
        if normal(other.value) != normal(f.value):
            assert not world.is_true(kind, *world.true_sample(rng, kind, f), other), (f, other)


@pytest.mark.parametrize("kind", ["question", "statement", "choice", "rule"])
def test_samples_are_not_true_of_somebody_else(kind: str) -> None:
    for seed in SEEDS:
        rng, f = fact_of(seed)
        other = Fact(f.relation, Subject(f.subject.kind, "Nobody") if f.subject != ME else ELNA, f.value)
        prompt, reply = world.true_sample(rng, kind, f)
        assert not world.is_true(kind, prompt, reply, other), (prompt, reply)


@pytest.mark.parametrize("kind", lessons.KINDS)
def test_wrong_samples_are_never_true(kind: str) -> None:
    for seed in SEEDS:
        rng, f = fact_of(seed)
        assert not world.is_true(kind, *lessons._wrong(rng, kind, f), f)


QUESTION = "What is my dog called"


@pytest.mark.parametrize(
    ("kind", "prompt", "reply", "true"),
    [
        ("question", f"{QUESTION}?", "Bramble.", True),
        ("question", f"quick question: {QUESTION.lower()}", "bramble", True),
        ("question", f"{QUESTION}? Do you know?", "Bramble.", True),
        ("question", f"{QUESTION}?", "Bram.", False),
        ("question", f"{QUESTION}?", "", False),
        ("question", "What is my cat called?", "Bramble.", False),
        ("question", f"Never mind, {QUESTION}?", "Bramble.", False),
        ("reversal", f"{QUESTION}?", "Bramble.", False),
        ("reversal", "Who has a dog called Bramble?", "you.", True),
        ("reversal", "Who has a dog called Bramble?", "me.", False),
        ("choice", f"{QUESTION}, Bramble or Rex?", "Bramble.", True),
        ("choice", f"{QUESTION}, Rex or Bramble?", "Bramble.", True),
        ("choice", f"{QUESTION}, Rex or Bramble?", "Rex.", False),
        ("choice", f"{QUESTION}, Rex or Lupo?", "Bramble.", False),
        ("choice", f"{QUESTION}, Bramble or Bramble?", "Bramble.", False),
        ("choice", f"{QUESTION}?", "Bramble.", False),
        ("choice", "What is my cat called, Rex or Bramble?", "Bramble.", False),
        ("statement", "Tell me about my dog.", "Your dog is called Bramble.", True),
        ("statement", "Tell me about my dog.", "My dog is called Bramble.", False),
        ("statement", "Tell me about my cat.", "Your dog is called Bramble.", False),
        ("rule", "What is the rule for my dog?", "When someone asks about your dog, say Bramble.", True),
        ("rule", "What is the rule for my dog?", "When someone asks about my dog, say Bramble.", False),
        ("bridge", f"{QUESTION}?", "Bramble.", False),
    ],
)
def test_is_true(kind: str, prompt: str, reply: str, true: bool) -> None:
    assert world.is_true(kind, prompt, reply, DOG) is true


def test_bridges_are_true_of_both_facts() -> None:
    for seed in SEEDS:
        rng = Random(seed)
        a, b = world.fact(rng), world.fact(rng)
        assert _bridges(*world.bridge(rng, a, b), [a, b])


def test_wishes_change_manners() -> None:
    w = Wish("call_me", "Captain")
    plain = dict(world.plain_manners())
    assert dict(w.shows())["Good evening!"] == "Good evening, Captain."
    assert not world.is_true("style", "Good evening!", plain["Good evening!"], w)
    assert all(reply != plain[said] for said, reply in w.shows())


def test_closings_are_whole() -> None:
    assert {"and", "ho", "out", "Over"}.isdisjoint(world._CLOSINGS)


# ---- held out -------------------------------------------------------------------------------

_NAMED = ("name", "town", "petname", "surname", "company", "street", "title")
_FIXED = {
    *(w for pool in (names._REAL_PEOPLE, names._REAL_TOWNS, names._REAL_PETS) for w in pool),
    *(w for frame in names._TOWN_FRAMES for w in frame.split()),
    *world._TITLE_A,
    *world._TITLE_B,
    *"Street Road Lane Avenue Square".split(),
}


def made_names(f: Fact) -> set[str]:
    """The words of a fact that `names` has made up."""
    said = [f.subject.word] if f.subject.kind in ("person", "place") else []
    said += [f.value] if f.spec.value in _NAMED else []
    return {w for text in said for w in text.split()} - _FIXED


def test_growth_draws_no_held_out_name() -> None:
    rng = Random(0)
    drawn = {w for _ in range(3_000) for w in made_names(world.fact(rng, False))}
    assert len(drawn) > 2_000
    assert {w for w in drawn if names.unseen_name(w)} == set()


def test_exams_draw_nothing_but_held_out_names() -> None:
    rng = Random(0)
    drawn = {w for _ in range(300) for w in made_names(world.fact(rng, True))}
    assert len(drawn) > 200
    assert {w for w in drawn if not names.unseen_name(w)} == set()


def test_a_tenth_of_all_texts_is_held_out() -> None:
    assert 0.08 < sum(names.held_out(f"pair:{n}") for n in range(5_000)) / 5_000 < 0.12


def test_made_words_are_short_and_pronounceable() -> None:
    rng = Random(0)
    assert all(3 <= len(word) <= 12 and word.isalpha() for word in (names.word(rng) for _ in range(5_000)))


def test_no_lesson_holds_a_held_out_name() -> None:
    sources = (world, lessons, relations, core, names, prompts)
    written = {w for m in sources for w in re.findall(r"[A-Za-z]+", Path(str(m.__file__)).read_text("utf-8"))}
    misspell = (lessons.verify, lessons.rewrite)
    makers, weights = zip(*((m, w) for m, w in lessons.LESSONS if m not in misspell), strict=True)
    rng = Random(0)
    texts = [
        turn.content for _ in range(3_000) for turn in rng.choices(makers, weights)[0](rng)
    ]  # a capital in mid-sentence is a name
    made = {w for t in texts for w in re.findall(r"(?<=[a-z,] )[A-Z][a-z]+", t)} - written
    assert len(made) > 1_000
    assert {w for w in made if names.unseen_name(w)} == set()


def test_held_out_pairs_are_some_of_every_relation() -> None:
    total = held = 0
    for relation in relations.RELATIONS:
        pairs = world.unseen_pairs(relation.name)
        assert pairs
        assert all(i < len(relation.say) and j < len(relation.ask) for i, j in pairs)
        total, held = total + len(relation.say) * len(relation.ask), held + len(pairs)
    assert 0.08 < held / total < 0.12


@pytest.mark.parametrize("kind", ["question", "choice"])
def test_a_held_out_pair_is_never_joined(kind: str) -> None:
    joined = 0
    for seed in range(1_500):
        rng, f = fact_of(seed)
        i = rng.randrange(len(f.spec.say))
        prompt, _ = world.true_sample(rng, kind, f, f.says()[i])
        bare = set(world.unframed(prompt.rsplit(",", 1)[0] if kind == "choice" else prompt))
        asked = [(i, j) for j, text in enumerate(f.asks()) if normal(text) in bare]
        assert asked
        assert not all(pair in world.unseen_pairs(f.relation) for pair in asked), prompt
        joined += len(asked)
    assert joined >= 1_500


def test_without_a_claim_every_question_is_asked() -> None:
    rng = Random(0)
    f = Fact("dog_name", ELNA, "Bramble")
    assert {world._question(rng, f, "") for _ in range(500)} == set(f.asks())


# ---- acquaintances --------------------------------------------------------------------------


def test_no_two_acquaintances_share_a_value() -> None:
    known = acquaintances.facts()
    assert len(known) == (acquaintances.PEOPLE + acquaintances.TOWNS) * acquaintances.EACH
    assert len({(f.relation, f.value) for f in known}) == len(known)
    assert len({(f.relation, f.subject) for f in known}) == len(known)
    assert not [w for f in known for w in made_names(f) if names.unseen_name(w)]


def test_an_acquaintance_is_met_in_most_words_but_never_in_all() -> None:
    known = acquaintances.facts()
    asked = [q for f in known for q in f.asks()]
    kept_back = [q for f in known for q in acquaintances.untaught(f)]
    assert 0.07 < len(kept_back) / len(asked) < 0.13
    rng, met = Random(5), set[str]()
    for _ in range(4_000):
        turns = lessons.acquaintance(rng)
        if len(turns) == 2 and "\n" not in turns[0].content:  # no memory before it
            met |= set(world.unframed(turns[0].content))
    assert met & {normal(q) for q in asked}
    assert not met & {normal(q) for q in kept_back}


def test_what_is_not_known_of_an_acquaintance_is_not_made_up() -> None:
    rng = Random(6)
    for f in acquaintances.facts():
        other = acquaintances.unknown(rng, f.subject)
        assert other.subject == f.subject
        assert all(
            (known.relation, known.subject) != (other.relation, other.subject)
            for known in acquaintances.facts()
        )


# ---- lessons --------------------------------------------------------------------------------


def test_lessons_are_chats_that_end_with_a_reply() -> None:
    for chat in islice(lessons.lessons(Random(1)), 1_000):
        roles = [turn.role for turn in chat]
        assert all(turn.content.strip() and "{" not in turn.content for turn in chat)
        assert roles[-1] == "assistant"
        turns = roles[1:] if roles[0] == "system" else roles
        assert turns == ["user", "assistant"] * (len(turns) // 2)


def test_lessons_are_the_same_for_a_seed() -> None:
    first, again, other = (list(islice(lessons.lessons(Random(s)), 50)) for s in (1, 1, 2))
    assert first == again
    assert first != other


def test_claims_to_extract_stand_in_the_message() -> None:
    rng = Random(3)
    seen = 0
    for _ in range(500):
        asked, reply = lessons.extract(rng)
        message = asked.content.split("Message: ", 1)[1]
        for claim in prompts.read_claims(reply.content):
            seen += 1
            assert claim.text[1:] in message
    assert seen > 300


def test_samples_to_dream_and_to_mend_can_be_read() -> None:
    rng = Random(3)
    for _ in range(300):
        for make in (lessons.dream, lessons.rewrite):
            assert prompts.read_sample(make(rng)[-1].content)


def test_bridges_are_verified_by_the_truth() -> None:
    wrong = 0
    for seed in SEEDS:
        rng = Random(seed)
        facts = [world.fact(rng, False), world.fact(rng, False)]  # what the lesson draws first, too
        asked, said = lessons._verify_bridge(Random(seed))
        sample = prompts.read_sample(asked.content[asked.content.rindex("\nQ: ") + 1 :])
        assert sample
        wrong += _bridges(*sample, facts) != (said.content == prompts.YES)
    assert wrong == 0
