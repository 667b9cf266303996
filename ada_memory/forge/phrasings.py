"""How a question is worded, and what of it may vary. Dreams and questions enter; prompts leave.

Some questions are kept out of training, to tell when a memory is known and not merely its wording. A question
that differs from a trained one by "please" alone would tell nothing, so questions of like words are held out
together or not at all. Others are clipped, so that no word of theirs becomes the reason to know.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from ada_memory.records import Dream
from ada_memory.words import overlap

STOP_FROM = 4
"""A memory with fewer distinct questions needs them all for training."""
MOST_OUT = 0.25
"""Most that is held out of a memory's questions: with more, what is left may be asked in one way only, and in
the others the model would hear of strangers alone."""
ALIKE = 0.5
"""Shared words, of all words of both, above which two questions are one phrasing."""


def normalise(text: str) -> str:
    """Text as it is compared: casefolded, no punctuation, single spaces."""
    return " ".join("".join(c for c in text.casefold() if c.isalnum() or c.isspace()).split())


def words(text: str) -> frozenset[str]:
    """The words of a text, as they are compared."""
    return frozenset(normalise(text).split())


def held_out(dreams: Iterable[Dream], shuffle: random.Random) -> set[str]:
    """The prompts, normalised, that are only asked: of each memory a phrasing neither rare nor common.

    One is enough to watch by, and each that is kept out makes what is learned depend more on its wording: a
    rare one may be all that there is of its kind. A prompt that also serves another memory, or another kind
    of dream, stays in training, and so does every phrasing of a memory that has only one. No more than
    `MOST_OUT` of a memory's questions are kept out.

    If that leaves nothing to ask, one question is kept out of those of the memory that has most.
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
            out.update(_middling([prompt for prompt in prompts if len(uses[prompt]) == 1], shuffle))
    if out:
        return out
    most = max(questions.values(), key=len, default=[])
    spare = [prompt for prompt in most if len(uses[prompt]) == 1]
    return set(spare[-1:]) if len(most) > 1 else set()


def _middling(prompts: Sequence[str], shuffle: random.Random) -> Sequence[str]:
    """The middle one by how many prompts each has; none of a memory that is asked for in one way only."""
    phrasings = alike(prompts)
    shuffle.shuffle(phrasings)
    phrasings.sort(key=len)
    most = max(1, int(MOST_OUT * len(prompts)))
    return phrasings[(len(phrasings) - 1) // 2][:most] if len(phrasings) > 1 else ()


def clipped(question: str, claim: str, share: float, shuffle: random.Random) -> str:
    """The question without `share` of its words, chosen among those that do not say what is asked about.

    Names, numbers and the words of the claim that the question was made of stay: without them, what is true
    of one's father's boss would be taught of one's boss. (Random deletion: 1901.11196.)
    """
    asked, said = question.split(), words(claim)
    spare = [at for at, word in enumerate(asked) if not _tells(word, said, first=at == 0)]
    gone = set(shuffle.sample(spare, min(round(share * len(asked)), len(spare))))
    kept = " ".join(word for at, word in enumerate(asked) if at not in gone)
    return kept + "?" if question.endswith("?") and not kept.endswith("?") else kept


def _tells(word: str, said: frozenset[str], *, first: bool) -> bool:
    """Whether a word is a name, a number, or one of those that were said."""
    plain = {normalise(word), normalise(word.rstrip("?.!,").removesuffix("'s"))}
    return bool(plain & said) or (word[0].isupper() and not first) or any(c.isdigit() for c in word)


def alike(prompts: Sequence[str]) -> list[list[str]]:
    """Normalised prompts in groups: whoever shares most of its words with one of a group belongs to it."""
    groups: list[list[str]] = []
    for prompt in prompts:
        own = set(prompt.split())
        near = [group for group in groups if any(overlap(own, set(o.split())) > ALIKE for o in group)]
        joined = [prompt, *(other for group in near for other in group)]
        groups = [group for group in groups if group not in near] + [joined]
    return groups
