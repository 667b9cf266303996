"""Rehearsal: how well what was learned before is still known, and what becomes of that.

Rows of gather's `known.jsonl` and a model that answers enter; reviews for the journal and graded memories for
the forge leave. A memory that is due is asked for in the phrasings that were never trained.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ada_memory.dream.prompts import recall, verify
from ada_memory.dream.reading import yes
from ada_memory.engines.engine import Engine, Sampling, Speaker
from ada_memory.forge.dataset import Known
from ada_memory.forge.neighbours import USER, Aside
from ada_memory.forge.phrasings import normalise, words
from ada_memory.forge.train import REPLY_TOKENS, given, gives
from ada_memory.records import Chat, Message, Sample
from ada_memory.words import Nearest

REPLY = Sampling(REPLY_TOKENS)
NEAREST = 4
"""Most memories that may answer a question, of all that it may be about."""


class Old(NamedTuple):
    """A known memory with its samples by part of the dataset, and whether it is due for a review."""

    memory: str
    due: bool
    train: tuple[Sample, ...]
    stop: tuple[Sample, ...]


Reviews = Mapping[str, tuple[int, int]]
"""Questions asked and answered right, by memory."""


def known(rows: Iterable[Mapping[str, Any]], overridden: Collection[tuple[str, str]]) -> list[Old]:
    """The rows as samples, without those of claims that a newer memory overrides."""
    found = []
    for row in rows:
        parts: dict[str, list[Sample]] = {"train": [], "stop": []}
        for made in row["samples"]:
            if (row["id"], made["claim"]) not in overridden:
                messages = (Message("user", made["prompt"]), Message("assistant", made["reply"]))
                told = made["kind"], made["dream"]
                sample = Sample(messages, "due", 1.0, (row["id"],), *told, claim=made["claim"])
                parts[made["part"]].append(sample)
        if parts["train"]:
            found.append(Old(row["id"], bool(row["due"]), tuple(parts["train"]), tuple(parts["stop"])))
    return found


def review(engine: Engine, memories: Sequence[Old]) -> Reviews:
    """Ask for every memory that is due, with an empty context; those without a question are left out."""
    asked = [row for old in memories if old.due for row in old.stop]
    right = dict.fromkeys((row.memories[0] for row in asked), (0, 0))
    for row, ok in zip(asked, gives(engine, asked), strict=True):
        of, told = right[row.memories[0]]
        right[row.memories[0]] = of + 1, told + ok
    return right


def graded(memories: Iterable[Old], reviews: Reviews) -> list[Known]:
    """The memories as the forge rehearses them: weak are those with a question answered wrong."""
    return [
        Known(old.memory, old.train, old.stop, weak=_share(reviews.get(old.memory)) < 1) for old in memories
    ]


def answered(engine: Speaker, chats: Sequence[Chat]) -> list[Sample]:
    """What the model itself says to each chat, as rows to be held to; replies cut off are left out."""
    replies = engine.generate(chats, REPLY) if chats else []
    return [
        Sample((*chat, Message("assistant", reply.text)), "self", kind="neighbour")
        for chat, reply in zip(chats, replies, strict=True)
        if reply.finished and reply.text
    ]


def unsaid(
    engine: Speaker, asides: Sequence[Aside], told: Mapping[str, Collection[str]], accept: float
) -> list[Sample]:
    """What the base says to the asides that nothing it was `told` answers, as rows to be held to.

    `told` has the texts, oldest first, and what each is asked. A text answers an aside if the base, reading
    it, says something else than without, and is as sure of that as of a dream that is accepted. Each text is
    read alone: from among others the seedling finds less.
    """
    read = list(_worded_alike(asides, told))
    said = {row.messages[:-1]: row for row in answered(engine, list(dict.fromkeys(chat for chat, _ in read)))}
    read = [(chat, text) for chat, text in read if chat in said]
    replies = engine.generate([recall([text], chat[0].content) for chat, text in read], REPLY) if read else []
    changed = [
        (chat, text, reply.text)
        for (chat, text), reply in zip(read, replies, strict=True)
        if normalise(reply.text) != normalise(said[chat].messages[-1].content)
    ]
    sure = yes(engine, [verify([text], chat[0].content, reply) for chat, text, reply in changed])
    known = {chat for (chat, _, _), score in zip(changed, sure, strict=True) if score >= accept}
    return [replace(row, kind="aside") for chat, row in said.items() if chat not in known]


def strayed(engine: Speaker, held: Sequence[Sample]) -> list[tuple[Sample, str]]:
    """Those of the rows that a model answers otherwise, and how: what it was told may have spread to them."""
    return [
        (row, reply)
        for row, reply in zip(held, given(engine, held), strict=True)
        if normalise(reply) != normalise(row.messages[-1].content)
    ]


def answers(known: Iterable[Mapping[str, Any]]) -> Mapping[str, set[str]]:
    """Which texts each reply was taught from, by the reply as it is compared."""
    taught: dict[str, set[str]] = defaultdict(set)
    for row in known:
        for sample in row["samples"]:
            taught[normalise(sample["reply"])].add(row["text"])
    return taught


def borne_out(
    base: Speaker, strayed: Sequence[tuple[Sample, str]], taught: Mapping[str, Collection[str]], accept: float
) -> list[Sample]:
    """Those of the rows whose other answer is true: the text that taught it bears it out, says the base.

    What the base does not find in a text by itself, or in none of the nearest, it can still confirm.
    """
    read = [(row, text, reply) for row, reply in strayed for text in sorted(taught.get(normalise(reply), ()))]
    sure = yes(base, [verify([text], row.messages[-2].content, reply) for row, text, reply in read])
    return [row for (row, _, _), score in zip(read, sure, strict=True) if score >= accept]


def _worded_alike(
    asides: Iterable[Aside], told: Mapping[str, Collection[str]]
) -> Iterable[tuple[Chat, str]]:
    """Each aside with the texts about its subject that are worded, and asked, most like it."""
    near = Nearest({text: words(" ".join((text, *asked))) for text, asked in told.items()})
    about: dict[str, list[str]] = {}
    for chat, subject in asides:
        if subject not in about:
            about[subject] = [text for text in told if mentions(text, subject)]
        yield from ((chat, text) for text in near.of(words(chat[0].content), about[subject], NEAREST))


def mentions(text: str, subject: str) -> bool:
    """Whether a text speaks of somebody by this name, or of its user."""
    name = "I|me|my|mine|myself" if subject == USER else re.escape(subject)
    return re.search(rf"(?<!\w)(?:{name})(?!\w)", text, re.IGNORECASE) is not None


def rows(reviews: Reviews) -> list[dict[str, object]]:
    """The reviews as rows of `reviews.jsonl`."""
    return [{"memory": memory, "asked": of, "right": right} for memory, (of, right) in reviews.items()]


def figures(reviews: Reviews) -> dict[str, object]:
    """How many memories were asked for, and the mean share of their questions answered right."""
    shares = [_share(review) for review in reviews.values()]
    return {"reviewed": len(shares), "recall_due": round(sum(shares) / len(shares), 4) if shares else None}


def _share(review: tuple[int, int] | None) -> float:
    return review[1] / review[0] if review and review[0] else 1.0
