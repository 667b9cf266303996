"""The people and towns that the seedling has met: what it knows of its own world by heart.

A model that has never known anything of this kind has no way from "Where does Petronella live?" to a town:
a night would have to build that way, in every phrasing, besides teaching the fact. A few hundred facts,
each asked in many phrasings, build it once ("mixed training" in Physics of Language Models 3.1, 2309.14316).
"""

from __future__ import annotations

from functools import cache
from random import Random

from ada_memory.seedling import names, world
from ada_memory.seedling.relations import RELATIONS, Relation
from ada_memory.seedling.world import Fact, Subject
from ada_memory.topology.exam import normal

PEOPLE = 100
TOWNS = 34
EACH = 3
"""Facts known of everybody; whatever else one asks about them is not known."""


@cache
def met() -> dict[Subject, list[Fact]]:
    """What is known of whom, always the same. No two facts of a relation have the same value."""
    rng = Random("acquaintances")
    taken: set[tuple[str, str]] = set()
    known: dict[Subject, list[Fact]] = {}
    for who in _subjects(rng):
        for relation in rng.sample(_fitting(who), EACH):
            drawn = world.value(rng, relation.value, False)
            while (relation.name, drawn) in taken:
                drawn = world.value(rng, relation.value, False)
            taken.add((relation.name, drawn))
            known.setdefault(who, []).append(Fact(relation.name, who, drawn))
    return known


@cache
def facts() -> tuple[Fact, ...]:
    """All that is known, one acquaintance after the other."""
    return tuple(f for known in met().values() for f in known)


def _subjects(rng: Random) -> list[Subject]:
    """Names that growth makes for nobody else but by a rare chance: single words of six letters and more."""
    drawn: dict[str, None] = {}
    while len(drawn) < PEOPLE + TOWNS:
        word = names.word(rng).capitalize()
        if len(word) >= 6:
            drawn[word] = None
    return [Subject("person" if i < PEOPLE else "place", word) for i, word in enumerate(drawn)]


def _fitting(who: Subject) -> list[Relation]:
    """The relations in which somebody, or a town, may stand."""
    return [r for r in RELATIONS if (r.subject == "place") == (who.kind == "place")]


def unknown(rng: Random, who: Subject) -> Fact:
    """Something that is not known of an acquaintance; the value is none that counts."""
    known = {f.relation for f in met()[who]}
    relation = rng.choice([r for r in _fitting(who) if r.name not in known])
    return Fact(relation.name, who, world.value(rng, relation.value, False))


@cache
def untaught(f: Fact) -> frozenset[str]:
    """The tenth of a fact's questions that growth never asks: they show whether it is known in any words.

    "Tell me, what is on her desk?" is one question in a frame and another one without: it is not kept back.
    """
    name, keep = f"acquaintance:{f.relation}:{f.subject.word}", world.proper_words(f)
    drawn = {q for j, q in enumerate(f.asks()) if names.held_out(f"{name}:{j}")}
    framed = {world.framed(q, frame, keep) for q in f.asks() if q not in drawn for frame in world.ASK_FRAMES}
    heard = {words for prompt in framed for words in world.unframed(prompt)}
    return frozenset(q for q in drawn if normal(q) not in heard)
