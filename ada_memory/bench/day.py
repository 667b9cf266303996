"""A day as a benchmark lives it: facts and wishes told in small talk, and how they are judged."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from ada_memory.engines.engine import Engine
from ada_memory.errors import BadInput
from ada_memory.records import Message
from ada_memory.seedling import lessons, world
from ada_memory.seedling.relations import POOLS, RELATIONS
from ada_memory.seedling.world import Fact, Wish
from ada_memory.topology.exam import Question, marks, normal, sit

JUDGES = 3
"""Question phrasings of each fact that nothing but the benchmark ever sees."""
UNTOLD = 6
"""Questions about each subject that nobody has told the answer to."""


@dataclass(frozen=True, slots=True)
class Told:
    """One message of the day, what it says, and the question templates kept back to judge it."""

    text: str
    of: Fact | Wish
    judges: tuple[str, ...] = ()


def day(facts: int, seed: int, wishes: int = 2) -> list[Told]:
    """Draw a day: no two facts share relation and subject, or relation and value; names are new."""
    rng = Random(f"day:{seed}")
    told = _facts(rng, facts, set())
    styles = rng.sample([s.name for s in world.STYLES], wishes)
    while styles:
        w = world.wish(rng, unseen=True)
        if w.style in styles:
            styles.remove(w.style)
            told.append(
                Told(lessons.wish_message(rng, w)[0], w, tuple(p for p, _ in rng.sample(w.shows(), 2)))
            )
    rng.shuffle(told)
    return told


def calendar(nights: int, facts: int, seed: int) -> list[list[Told]]:
    """Draw days of facts, none of which contradicts another one of the same or an earlier day."""
    rng, seen = Random(f"calendar:{seed}"), set[tuple[str, object]]()
    return [_facts(rng, facts, seen) for _ in range(nights)]


def _facts(rng: Random, count: int, seen: set[tuple[str, object]]) -> list[Told]:
    """Facts told, at most two of a relation; `seen` grows by what later ones may not contradict.

    Raises:
        BadInput: a day has no room for so many.
    """
    most = 2 * len(RELATIONS)
    if count > most:
        raise BadInput(f"a day holds {most} facts at most, two of each relation", field="facts")
    told: list[Told] = []
    of: Counter[str] = Counter()
    while len(told) < count:
        f = world.fact(rng, unseen=True)
        if {(f.relation, f.subject), (f.relation, f.value)} & seen or of[f.relation] == 2:
            continue
        seen |= {(f.relation, f.subject), (f.relation, f.value)}
        of[f.relation] += 1
        told.append(Told(lessons.fact_message(rng, f)[0], f, tuple(rng.sample(f.asks(), JUDGES))))
    return told


def withheld(told: Sequence[Told]) -> list[str]:
    """Every prompt that judges, in every frame that a dream could put around it."""
    out: dict[str, None] = {}
    for item in told:
        keep = world.proper_words(item.of) if isinstance(item.of, Fact) else ()
        for judge in item.judges:
            out |= {world.framed(judge, frame, keep): None for frame in world.ASK_FRAMES}
    return list(out)


def keep_back(told: Sequence[Told], folder: Path) -> Path:
    """Write what judges to a file in `folder`, for `forge.withhold`; returns the file."""
    file = folder / "withheld.txt"
    file.write_text("\n".join(withheld(told)) + "\n", "utf-8")
    return file


def questions(told: Sequence[Told]) -> list[Question]:
    """What the judge asks about the facts: the right value, and no other value of that relation.

    A question's category says whom it is about: "me" (the user), "kin" (of the user), "person" or "place".
    """
    facts = [(t.of, t.judges) for t in told if isinstance(t.of, Fact)]
    known = [f for f, _ in facts]
    return [
        Question(
            f.subject.kind,
            f"{f.relation}:{f.subject.word}",
            (Message("user", judge),),
            f.value,
            _others(f, known),
        )
        for f, judges in facts
        for judge in judges
    ]


def _others(fact: Fact, facts: Sequence[Fact]) -> tuple[str, ...]:
    """Values of the same pool that the day, or the world's list, knows."""
    pool = fact.spec.value
    values = {f.value for f in facts if f.spec.value == pool} | set(POOLS.get(pool, ()))
    return tuple(sorted(v for v in values if v not in fact.value and fact.value not in v))


def untold(told: Sequence[Told], seed: int, each: int = UNTOLD) -> list[Question]:
    """Other questions about those of whom something was told; nobody has told the answers.

    Their categories are those of `questions`.
    """
    rng = Random(f"untold:{seed}")
    facts = [t.of for t in told if isinstance(t.of, Fact)]
    known = {(f.relation, f.subject) for f in facts}
    asked = []
    for f in facts:
        kin = [r for r in RELATIONS if r.subject == f.spec.subject and (r.name, f.subject) not in known]
        for r in rng.sample(kin, min(each, len(kin))):
            question = world.fill(rng.choice(r.ask), f.subject, "")
            asked.append(Question(f.subject.kind, r.name, (Message("user", question),), ""))
    return asked


def leak(engine: Engine, told: Sequence[Told], seed: int, each: int = UNTOLD) -> dict[str, float]:
    """Share of `untold` questions answered with something that was taught, by category and as "all"."""
    asked = untold(told, seed, each)
    values = [f" {normal(t.of.value)} " for t in told if isinstance(t.of, Fact)]
    by: dict[str, list[bool]] = {"all": []}
    for question, reply in zip(asked, sit(engine, asked), strict=True):
        leaked = any(value in f" {normal(reply)} " for value in values)
        by["all"].append(leaked)
        by.setdefault(question.category, []).append(leaked)
    return {of: round(sum(leaks) / max(1, len(leaks)), 4) for of, leaks in by.items()}


def manners(told: Sequence[Told]) -> list[Question]:
    """Does the model follow the day's wishes, in situations that were kept back?"""
    return [
        Question("style", t.of.style, (Message("user", said),), dict(t.of.shows())[said])
        for t in told
        if isinstance(t.of, Wish)
        for said in t.judges
    ]


def follows(engine: Engine, asked: Sequence[Question]) -> float:
    """Share of style questions answered by the wish, word for word; 0 if there are none."""
    if not asked:
        return 0.0
    return sum(normal(q.answer) == normal(r) for q, r in zip(asked, sit(engine, asked), strict=True)) / len(
        asked
    )


def recall(engine: Engine, asked: Sequence[Question]) -> float:
    """Share of judged questions answered right with an empty context; 0 if there are none."""
    return marks(asked, sit(engine, asked)).get("all", 0.0)


def probability(engine: Engine, asked: Sequence[Question]) -> float:
    """Mean probability of the right answers, as the seedling gives them; 0 if nothing is asked."""
    scores = engine.score([q.messages for q in asked], [f"{q.answer}." for q in asked])
    return sum(math.exp(float(score.sum())) for score in scores) / max(len(asked), 1)
