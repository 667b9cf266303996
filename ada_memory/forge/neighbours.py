"""Neighbours of what was learned: the same questions about somebody else, which should change nothing.

Rows of the night and of the core enter; prompts leave. A model that has just learned where Petronella lives
tends to know where everybody lives. Held to its base on neighbours it goes on saying that it does not know.
(Knowledge editing judges edits by such prompts: "neighbourhood" in CounterFact, 2202.05262.)
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence

from ada_memory.forge.phrasings import normalise
from ada_memory.records import Chat, Message, Sample

_NAME = re.compile(r"(?<=[a-z,0-9'] )[A-Z][\w-]*\w")
_WORD = re.compile(r"[A-Z][\w-]*\w")
ALIKE = 0.8
"""Shared words, of all words of both, above which two prompts ask the same."""
KNOWN = 320
"""Neighbours of what was rehearsed, shared out among the memories; every night has others."""


def names(texts: Iterable[str]) -> set[str]:
    """Words with a capital in the middle of a sentence."""
    return {word for text in texts for word in _NAME.findall(text)}


def neighbours(rows: Sequence[Sample], core: Sequence[Sample], each: int, seed: int) -> list[Chat]:
    """Up to `each` prompts for every memory, fewer for known ones if these are many: the names swapped.

    The strangers are names of the core, names of other memories, and blends of two names that are nobody's.
    A prompt that turns out to be asked of some memory is left out. A question whose names are all part of its
    answer is passed over, and so is one without a name: there is nobody else to ask about.
    """
    shuffle = random.Random(f"neighbours/{seed}")
    known = names(_texts(rows))
    strangers = sorted(known | names(_texts(core)))
    if len(strangers) < 2 or not each:
        return []
    new = _questions([row for row in rows if row.source == "new"], known)
    old = _questions([row for row in rows if row.source == "due"], known)
    share = min(each, max(1, KNOWN // max(len(old), 1)))
    picked = [shuffle.choice(own) for own in new for _ in range(each)]
    picked += [shuffle.choice(own) for own in shuffle.sample(old, min(len(old), KNOWN)) for _ in range(share)]
    swapped = dict.fromkeys(_swapped(prompt, known, strangers, shuffle) for prompt in picked)
    asked = [frozenset(normalise(row.messages[-2].content).split()) for row in rows if row.memories]
    return [(Message("user", prompt),) for prompt in swapped if not _is_asked(prompt, asked)]


def _questions(rows: Iterable[Sample], known: set[str]) -> list[list[str]]:
    """The questions of each memory that name somebody who is not the answer."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.kind in ("question", "choice"):
            prompt, reply = row.messages[-2].content, row.messages[-1].content
            if set(_WORD.findall(prompt)) & known - set(_WORD.findall(reply)):
                found.setdefault(row.memories[0], []).append(prompt)
    return list(found.values())


def _swapped(prompt: str, known: set[str], strangers: Sequence[str], shuffle: random.Random) -> str:
    new: dict[str, str] = {}

    def other(found: re.Match[str]) -> str:
        word = found[0]
        if word not in known:
            return word
        one, two = shuffle.sample(strangers, 2)
        blend = one[: -(-len(one) // 2)] + two[len(two) // 2 :].lower()
        return new.setdefault(word, shuffle.choice((one, blend)))

    return _WORD.sub(other, prompt)


def _is_asked(prompt: str, asked: Sequence[frozenset[str]]) -> bool:
    """Whether a memory is asked for in much the same words."""
    words = frozenset(normalise(prompt).split())
    return any(len(words & other) > ALIKE * len(words | other) for other in asked)


def _texts(rows: Iterable[Sample]) -> Iterable[str]:
    return (message.content for row in rows for message in row.messages)
