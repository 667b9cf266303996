"""The night's own tasks, drawn from the seedling's world: what `craft.jsonl` beside it asks.

All names are such as growth cannot have made, so what is measured is the skill and not what is remembered.
Rows leave in the form that dream/craft.py reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, islice
from random import Random

from ada_memory.dream import prompts
from ada_memory.seedling import lessons, world
from ada_memory.seedling.relations import RELATIONS
from ada_memory.seedling.world import Fact

Row = dict[str, object]


def rows(seed: int = 0, scale: int = 1) -> list[Row]:
    """Items for every task: 24 extract, 24 dream, 80 verify, 16 rewrite, 24 supersede, times `scale`."""
    rng = Random(f"craft:{seed}")
    return [
        *(_extract(rng, turn) for turn in range(24 * scale)),
        *islice(_dreams(rng), 24 * scale),
        *(row for _ in range(8 * scale) for kind in prompts.FACT_KINDS for row in _verify(rng, kind)),
        *(_rewrite(rng) for _ in range(16 * scale)),
        *(row for _ in range(12 * scale) for row in _supersede(rng)),
    ]


def _extract(rng: Random, turn: int) -> Row:
    """Of each six messages one is small talk, one a wish, one holds two facts."""
    if turn % 6 == 0:
        return {"task": "extract", "messages": [" ".join(lessons.small_talk(rng) for _ in range(2))]}
    if turn % 6 == 1:
        wish = world.wish(rng, True)
        said, claim = lessons.wish_message(rng, wish)
        return {"task": "extract", "messages": [said], "wishes": [wish.value or claim.removesuffix(".")]}
    if turn % 6 == 2:
        pair = lessons.distinct(rng, 2, True)
        told = [lessons.told(rng, rng.choice(f.says()), world.proper_words(f)) for f in pair]
        return {"task": "extract", "messages": [" ".join(told)], "facts": [_words(f) for f in pair]}
    f = world.fact(rng, True)
    return {"task": "extract", "messages": [lessons.fact_message(rng, f)[0]], "facts": [_words(f)]}


def _words(f: Fact) -> str:
    """What a claim must hold to be this fact's: its value and, where it is a name, its subject."""
    return " ".join([f.value] + ([f.subject.word] if f.subject.word else []))


def _dreams(rng: Random) -> Iterator[Row]:
    for kind in cycle(prompts.FACT_KINDS):
        f = world.fact(rng, True)
        yield {"task": "dream", "kind": kind, "messages": [rng.choice(f.says())], **_sample(kind, f)}


def _sample(kind: str, f: Fact) -> Row:
    """The words that a true sample of a fact holds, and those that it does not."""
    subject = [f.subject.word] if f.subject.word else []
    you = subject or ["you|your|yours"]
    words: dict[str, Row] = {
        "question": {"asks": subject, "says": [f.value], "hides": [f.value]},
        "choice": {"asks": [*subject, f.value, "or"], "says": [f.value]},
        "statement": {"asks": subject, "says": [*you, f.value]},
        "reversal": {"asks": [f.value], "says": you, "hides": subject},
        "rule": {"asks": subject, "says": [f.value]},
    }
    return words[kind]


def _verify(rng: Random, kind: str) -> Iterator[Row]:
    """A true sample and a false one of the same message."""
    f = world.fact(rng, True)
    claim = rng.choice(f.says())
    said, other = lessons.fact_message(rng, f, claim=claim)[0], world.fact(rng, True)
    if rng.random() < 0.3:
        said = f"{said} {lessons.fact_message(rng, other)[0]}"
    for right in (True, False):
        prompt, reply = world.true_sample(rng, kind, f, claim) if right else _false(rng, kind, f, other)
        yield {"task": "verify", "messages": [said], "prompt": prompt, "reply": reply, "right": right}


def _false(rng: Random, kind: str, f: Fact, other: Fact) -> tuple[str, str]:
    """A sample that is off in one thing: the value, the subject, the relation, or whose answer it is."""
    prompt, reply = world.true_sample(rng, kind, f)
    kin = [r for r in RELATIONS if (r.subject, r.value) == (f.spec.subject, f.spec.value) and r != f.spec]
    turn = rng.randrange(4)
    if turn == 0:
        wrong = Fact(f.relation, f.subject, world.other_value(rng, f, True))
        reply = world.true_sample(rng, kind, wrong)[1]
    elif turn == 1:
        prompt = world.true_sample(rng, kind, Fact(f.relation, world.subject(rng, f.spec, True), f.value))[0]
    elif turn == 2 and kin:
        prompt, reply = world.true_sample(rng, kind, Fact(rng.choice(kin).name, f.subject, f.value))
    else:
        reply = world.true_sample(rng, kind, other)[1]
    return _false(rng, kind, f, other) if world.is_true(kind, prompt, reply, f) else (prompt, reply)


def _rewrite(rng: Random) -> Row:
    f, other = world.fact(rng, True), world.fact(rng, True)
    prompt, _ = world.true_sample(rng, "question", f)
    row = {"task": "rewrite", "messages": [lessons.fact_message(rng, f)[0]], "prompt": prompt}
    return row | {"reply": other.answer()} | _sample("question", f)


def _supersede(rng: Random) -> Iterator[Row]:
    """The same thing with another value; another thing of the same subject, or the same thing of another."""
    f = world.fact(rng, True)
    old = rng.choice(f.says())
    newer = Fact(f.relation, f.subject, world.other_value(rng, f, True))
    yield {"task": "supersede", "messages": [old, rng.choice(newer.says())], "right": True}
    stranger = world.subject(rng, f.spec, True)
    if stranger != f.subject and rng.random() < 0.5:
        other = Fact(f.relation, stranger, newer.value)
    else:
        kin = [r for r in RELATIONS if r.subject == f.spec.subject and r != f.spec]
        other = Fact((spec := rng.choice(kin)).name, f.subject, world.value(rng, spec.value, True))
    yield {"task": "supersede", "messages": [old, rng.choice(other.says())], "right": False}
