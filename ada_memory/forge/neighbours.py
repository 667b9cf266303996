"""Neighbours of what was learned: the same questions about somebody else, which should change nothing.

Rows of the night and of the core enter; prompts leave. A model that has just learned where Petronella lives
tends to know where everybody lives. Held to its base on neighbours it goes on saying that it does not know.
(Knowledge editing judges edits by such prompts: "neighbourhood" in CounterFact, 2202.05262.)
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Sequence

from ada_memory.forge.phrasings import normalise
from ada_memory.records import Chat, Message, Sample
from ada_memory.words import overlap

_NAME = re.compile(r"(?<=[a-z,0-9'] )[A-Z][\w-]*\w")
_WORD = re.compile(r"[A-Z][\w-]*\w")
ALIKE = 0.8
"""Shared words, of all words of both, above which two prompts ask the same."""
SHARED = 512
"""Neighbours of what was rehearsed, and as many of the core's questions; every night has others."""


def names(texts: Iterable[str]) -> set[str]:
    """Words with a capital in the middle of a sentence; hers is none: whoever asks may call her by it."""
    return {word for text in texts for word in _NAME.findall(text)} - {"Ada"}


def neighbours(rows: Sequence[Sample], core: Sequence[Sample], each: int, seed: int) -> list[Chat]:
    """Up to `each` prompts for every new memory, and `SHARED` for all others together: the names swapped.

    The strangers are names of the core, names of other memories, and blends of two names that are nobody's;
    the core's own questions are asked about the latter alone. The same strangers every night would be learned
    by heart. A prompt that turns out to be asked of some memory is left out. A question whose names are all
    part of its answer is passed over, and so is one without a name: there is nobody else to ask about.
    """
    shuffle = random.Random(f"neighbours/{seed}")
    known, common = names(_texts(rows)), names(_texts(core))
    strangers = sorted(known | common)
    if len(strangers) < 2 or not each:
        return []

    def anybody() -> str:
        return shuffle.choice((shuffle.choice(strangers), nobody()))

    def nobody() -> str:
        one, two = shuffle.sample(strangers, 2)
        return one[: -(-len(one) // 2)] + two[len(two) // 2 :].lower()

    new = _questions([row for row in rows if row.source == "new"], known)
    old = _questions([row for row in rows if row.source == "due"], known)
    asked = [shuffle.choice(own) for own in new for _ in range(each)]
    asked += [shuffle.choice(shuffle.choice(old)) for _ in range(SHARED if old else 0)]
    plain = [row.messages[0].content for row in core if len(row.messages) == 2]
    shared = [prompt for prompt in plain if "\n" not in prompt and set(_WORD.findall(prompt)) & common]
    prompts = [_swapped(prompt, known, anybody) for prompt in asked]
    prompts += [_swapped(shuffle.choice(shared), common, nobody) for _ in range(SHARED if shared else 0)]
    taught = [frozenset(normalise(row.messages[-2].content).split()) for row in rows if row.memories]
    return [(Message("user", prompt),) for prompt in dict.fromkeys(prompts) if not _is_asked(prompt, taught)]


def _questions(rows: Iterable[Sample], known: set[str]) -> list[list[str]]:
    """The questions of each memory that name somebody who is not the answer."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.kind in ("question", "choice"):
            prompt, reply = row.messages[-2].content, row.messages[-1].content
            if set(_WORD.findall(prompt)) & known - set(_WORD.findall(reply)):
                found.setdefault(row.memories[0], []).append(prompt)
    return list(found.values())


def _swapped(prompt: str, theirs: set[str], other: Callable[[], str]) -> str:
    """The prompt with each of their names exchanged for another one."""
    new: dict[str, str] = {}

    def exchange(found: re.Match[str]) -> str:
        word = found[0]
        return new.setdefault(word, other()) if word in theirs else word

    return _WORD.sub(exchange, prompt)


def _is_asked(prompt: str, asked: Sequence[frozenset[str]]) -> bool:
    """Whether a memory is asked for in much the same words."""
    words = frozenset(normalise(prompt).split())
    return any(overlap(words, other) > ALIKE for other in asked)


def _texts(rows: Iterable[Sample]) -> Iterable[str]:
    return (message.content for row in rows for message in row.messages)
