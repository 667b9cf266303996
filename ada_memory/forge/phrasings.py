"""Which questions are kept out of training, to tell when a memory is known and not merely its wording.

Dreams enter; prompts leave. A question that differs from a trained one by "please" alone would tell nothing,
so questions of like words are held out together or not at all.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from ada_memory.records import Dream

STOP_SHARE = 0.15
STOP_FROM = 4
"""A memory with fewer distinct questions needs them all for training."""
ALIKE = 0.5
"""Shared words, of all words of both, above which two questions are one phrasing."""


def normalise(text: str) -> str:
    """Text as it is compared: casefolded, no punctuation, single spaces."""
    return " ".join("".join(c for c in text.casefold() if c.isalnum() or c.isspace()).split())


def held_out(dreams: Iterable[Dream], shuffle: random.Random) -> set[str]:
    """The prompts, normalised, that are only asked: of each memory about 15% of its questions, at least one.

    A prompt that also serves another memory, or another kind of dream, stays in training, and so does every
    phrasing of a memory that has only one.
    """
    uses: dict[str, set[tuple[str, str]]] = {}
    questions: dict[str, list[str]] = {}
    for dream in dreams:
        prompt = normalise(dream.prompt)
        uses.setdefault(prompt, set()).add((dream.memories[0], dream.kind))
        if dream.kind == "question" and prompt not in questions.setdefault(dream.memories[0], []):
            questions[dream.memories[0]].append(prompt)
    out: set[str] = set()
    for prompts in questions.values():
        if len(prompts) >= STOP_FROM:
            out |= _some([prompt for prompt in prompts if len(uses[prompt]) == 1], len(prompts), shuffle)
    return out


def _some(own: Sequence[str], of: int, shuffle: random.Random) -> set[str]:
    """Whole phrasings, the rarest first, until there are enough; the last one is never taken."""
    phrasings = alike(own)
    shuffle.shuffle(phrasings)
    phrasings.sort(key=len)
    out: set[str] = set()
    for phrasing in phrasings[:-1]:
        if len(out) >= max(1, round(STOP_SHARE * of)):
            break
        out.update(phrasing)
    return out


def alike(prompts: Sequence[str]) -> list[list[str]]:
    """Normalised prompts in groups: whoever shares most of its words with one of a group belongs to it."""
    groups: list[list[str]] = []
    for prompt in prompts:
        near = [group for group in groups if any(_overlap(prompt, other) > ALIKE for other in group)]
        joined = [prompt, *(other for group in near for other in group)]
        groups = [group for group in groups if group not in near] + [joined]
    return groups


def _overlap(a: str, b: str) -> float:
    one, two = set(a.split()), set(b.split())
    return len(one & two) / len(one | two) if one | two else 1.0
