"""Exams: what the seedling is asked.

`write` makes the files that ship with the seedling (`data/core.jsonl`, replayed by night, `data/exam.jsonl`
and `data/craft.jsonl`, asked by the health check). `judge` and `in_context` are for benchmarks alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from functools import cache
from itertools import chain, islice
from pathlib import Path
from random import Random

from ada_memory.dream import prompts
from ada_memory.records import Chat
from ada_memory.seedling import acquaintances, core, craft, lessons, world
from ada_memory.topology.exam import Question

_UNTAUGHT_FRAMES = (
    "Excuse me, {l}",
    "So, {l}",
    "Now then, {l}",
    "One question: {l}",
    "All right, {l}",
    "Well, {l}",
)


def _question(item: core.Item, prompt: str | None = None) -> Question:
    return Question(item.category, item.key, lessons.chat(prompt or item.prompt), item.reply)


def _framed(rng: Random, item: core.Item) -> list[Question]:
    """One item in three frames that growth never used."""
    lowered = world.lower(item.prompt)
    return [_question(item, frame.replace("{l}", lowered)) for frame in rng.sample(_UNTAUGHT_FRAMES, 3)]


def _draw(rng: Random, items: Iterable[core.Item], share: str, count: int) -> list[core.Item]:
    """Items of one share, keys evenly: every key once before any key twice."""
    by_key: dict[str, list[core.Item]] = {}
    for item in items:
        if core.share(item.key) == share:
            by_key.setdefault(item.key, []).append(item)
    drawn: list[core.Item] = []
    pools = [rng.sample(group, len(group)) for _, group in sorted(by_key.items())]
    rng.shuffle(pools)
    while len(drawn) < count and any(pools):
        drawn += [pool.pop() for pool in pools if pool]
    return drawn[:count]


def core_exam(share: str, seed: int, scale: int = 1) -> list[Question]:
    """The core exam of one share: at least 340 items times `scale`, by category."""
    rng = Random(f"{share}:{seed}")
    sums = [i for i in core.arithmetic() if " times " not in i.prompt]
    requests = [i for i in core.refusals() if not core.taught(i)]
    return [
        *(_question(i) for i in _draw(rng, core.facts(), share, 120 * scale)),
        *(_question(i) for i in _draw(rng, core.people(), share, 40 * scale)),
        *(_question(i, core.rephrased(rng, i)) for i in _draw(rng, sums, share, 60 * scale)),
        *(q for i in _draw(rng, core.identity(), share, 20 * scale) for q in _framed(rng, i)),
        *(_question(i) for i in _draw(rng, requests, share, 40 * scale)),
        *(in_context(rng) for _ in range(30 * scale)),
        *(_last(lessons.formats(rng), "format", f"format:{share}:{k}") for k in range(15 * scale)),
        *(_last(lessons.summary(rng), "summary", f"summary:{share}:{k}") for k in range(15 * scale)),
        *(_unknown(rng) for _ in range(15 * scale)),
    ]


def _last(chat: Chat, category: str, key: str) -> Question:
    return Question(category, key, chat[:-1], chat[-1].content)


def _unknown(rng: Random) -> Question:
    f = world.fact(rng, True)
    while f.subject.kind in ("me", "kin"):
        f = world.fact(rng, True)
    return Question(
        "unknown", f"unknown:{f.relation}:{f.subject.word}", lessons.chat(rng.choice(f.asks())), core.UNKNOWN
    )


def in_context(rng: Random, held_out: bool = True) -> Question:
    """A question with four memories in front.

    Held out: names never seen, and a (statement, question) pair that growth never joined.
    """
    facts = lessons.distinct(rng, 4, held_out)
    target = facts[0]
    unseen = sorted(world.unseen_pairs(target.relation))
    if held_out and not unseen:
        return in_context(rng, held_out)
    i, j = (
        rng.choice(unseen)
        if held_out
        else (rng.randrange(len(target.spec.say)), rng.randrange(len(target.spec.ask)))
    )
    claim, question = target.says()[i], target.asks()[j]
    memories = [lessons.fact_message(rng, target, claim=claim)[0]] + [
        lessons.fact_message(rng, f)[0] for f in facts[1:]
    ]
    rng.shuffle(memories)
    return Question(
        "context",
        f"context:{target.relation}",
        prompts.recall(memories, question),
        target.value,
        tuple(f.value for f in facts[1:] if f.value != target.value),
    )


def tasks(seed: int, each: int) -> Iterator[Question]:
    """The night's own tasks whose reply can be checked word by word."""
    rng = Random(f"tasks:{seed}")
    for make in (
        lessons.extract,
        lessons.verify,
        lessons.supersede,
        lessons.conversation,
        lessons.style_in_context,
    ):
        for chat in islice(iter(lambda make=make: make(rng), None), each):  # type: ignore[misc]
            yield _last(chat, make.__name__, make.__name__)


_TASKS = {
    "context": (lessons.answer_in_context, lessons.style_in_context, lessons.conversation),
    "form": (lessons.formats, lessons.summary),
    "night": (lessons.extract, lessons.dream, lessons.verify, lessons.rewrite, lessons.supersede),
}


def replay(seed: int = 0, count: int = 5_500) -> list[dict[str, object]]:
    """Chats that a night may replay, of all kinds: nothing here is ever asked by an exam.

    Strangers of whom the seedling knows nothing are in it, since a night that teaches answers must not teach
    to make them up. Left out is what a night may well change: the user and the user's kin, plain manners.
    """
    rng = Random(f"replay:{seed}")
    by_kind: dict[str, list[dict[str, object]]] = {}
    learned = (core.facts(), core.people(), core.arithmetic(), core.identity())
    for item in chain(*learned, core.refusals(), core.harmless()):
        if core.share(item.key) == "replay" and core.taught(item):
            rows = [_row(item.category, item.key, lessons.chat(p, item.reply)) for p in _asked(rng, item)]
            by_kind.setdefault(item.category, []).extend(rows)
    share = count // (len(by_kind) + len(_TASKS) + 1)
    for kind, makers in _TASKS.items():  # half as many: their prompts are five times as long
        made = [_row(kind, make.__name__, make(rng)) for _ in range(share) for make in makers]
        by_kind[kind] = rng.sample(made, share // 2)
    by_kind["unknown"] = [_unknown_row(rng, who) for _ in range(share) for who in ("person", "place", "met")]
    rows = [row for pool in by_kind.values() for row in rng.sample(pool, min(share, len(pool)))]
    rng.shuffle(rows)
    return rows


def _asked(rng: Random, item: core.Item) -> list[str]:
    """The ways in which a night may ask for an item: what is asked about Ada in every frame of the world."""
    if item.category == "identity":
        return [world.framed(item.prompt, frame, ()) for frame in dict.fromkeys(world.ASK_FRAMES)]
    if item.category == "people":
        return [world.framed(item.prompt, rng.choice(world.ASK_FRAMES), item.key.split(":"))]
    return [core.rephrased(rng, item) if item.category == "arithmetic" else item.prompt]


def _unknown_row(rng: Random, who: str) -> dict[str, object]:
    """Something about a stranger, or what is not known of somebody who is "met"."""
    if who == "met":
        f = acquaintances.unknown(rng, rng.choice(_replayed()).subject)
    else:
        f = world.fact(rng, False)
        while f.subject.kind != who:
            f = world.fact(rng, False)
    # asked in the frames that dreams have, too: else a plain question alone would be a reason not to know
    prompt = world.framed(rng.choice(f.asks()), rng.choice(world.ASK_FRAMES), world.proper_words(f))
    return _row("unknown", "unknown", lessons.chat(prompt, core.UNKNOWN))


@cache
def _replayed() -> list[world.Fact]:
    """What is known of those whom a night may ask about."""
    return [f for f in acquaintances.facts() if core.share(core.key_of(f.subject)) == "replay"]


def _row(kind: str, key: str, chat: Chat) -> dict[str, object]:
    return {"messages": [{"role": m.role, "content": m.content} for m in chat], "kind": kind, "key": key}


def write(folder: Path) -> None:
    """Write `core.jsonl`, `exam.jsonl` and `craft.jsonl` for the night."""
    folder.mkdir(parents=True, exist_ok=True)
    gate = [asdict(q) for q in core_exam("gate", 0, 2)]
    for name, rows in (("core", replay()), ("exam", gate), ("craft", craft.rows())):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the seedling's core, exam and craft.")
    parser.add_argument("folder", type=Path)
    write(parser.parse_args().folder)
