"""DreamGenerator: memories go in, claims and candidate samples come out. Speaks through an engine."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from random import Random
from typing import NamedTuple

from ada_memory.dream import prompts
from ada_memory.dream.corrections import corrected
from ada_memory.dream.prompts import Claim
from ada_memory.dream.reading import words
from ada_memory.engines.engine import Sampling, Speaker
from ada_memory.records import Dream, DreamKind
from ada_memory.settings import DreamSettings

# Questions teach recall, so half of a burst are questions.
_FACTS: tuple[DreamKind, ...] = (
    "question", "statement", "question", "reversal", "question", "choice", "question", "rule"
)  # fmt: skip
_WISHES: tuple[DreamKind, ...] = (
    "style", "question", "style", "statement", "style", "rule", "style", "style"
)  # fmt: skip
_CLAIM_TOKENS, _DREAM_TOKENS = 96, 72
COPIED = 0.7
"""Likeness, letter by letter, from which a claim is taken to be some words of its memory, copied wrong."""


class _Planned(NamedTuple):
    """A dream that is to be dreamt."""

    kind: DreamKind
    memories: tuple[str, ...]
    claims: tuple[Claim, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """What the model read out of one memory: possibly nothing."""

    memory: str
    text: str
    claims: tuple[Claim, ...]


class DreamGenerator:
    """Dreams of memories with one model, one seed and one set of settings."""

    def __init__(self, engine: Speaker, settings: DreamSettings, seed: int) -> None:
        self.engine = engine
        self.settings = settings
        self.seed = seed
        self._made = 0

    def read(self, memories: Sequence[tuple[str, str]]) -> list[Reading]:
        """The claims of each (id, text), in order. A claim must be made of the memory's own words.

        Where none is, because a word was copied wrong, the memory's own wording takes its place.
        """
        replies = self.engine.generate(
            [prompts.extract(text) for _, text in memories], Sampling(_CLAIM_TOKENS)
        )
        return [
            Reading(id_, text, _grounded(prompts.read_claims(reply.text), text))
            for (id_, text), reply in zip(memories, replies, strict=True)
        ]

    def superseded(
        self, readings: Sequence[Reading], near: Mapping[str, Sequence[Reading]] | None = None
    ) -> dict[tuple[str, str], str]:
        """(memory, claim) pairs that a later memory overrides, with that memory; `readings` oldest first.

        `near` holds, for a memory of `readings`, what earlier nights have learned about the same, perhaps.
        """
        claims = [(r, c) for r in readings for c in r.claims]
        before = [
            ((old, claim), (new, other))
            for new, other in claims
            for old in (near or {}).get(new.memory, ())
            for claim in old.claims
        ]
        tonight = [(old, new) for i, old in enumerate(claims) for new in claims[i + 1 :]]
        pairs = [
            (old, new)
            for old, new in before + tonight
            if old[0] is not new[0] and old[1].wish == new[1].wish and related(old[1].text, new[1].text)
        ]
        compared = [(old[1], new[1]) for old, new in pairs]
        changed = corrected(self.engine, compared, self.settings, self.seed)
        return {
            (old[0].memory, old[1].text): new[0].memory
            for (old, new), gone in zip(pairs, changed, strict=True)
            if gone
        }

    def burst(self, claims: Sequence[tuple[str, Claim]], cycle: int, size: int) -> list[Dream]:
        """`size` dreams of each (memory id, claim), at the settings' temperature."""
        plan: list[_Planned] = []
        for memory, claim in claims:
            kinds = _WISHES if claim.wish else _FACTS
            places = range(cycle * size, (cycle + 1) * size)
            plan += [_Planned(kinds[at % len(kinds)], (memory,), (claim,)) for at in places]
        return self._dream(plan, cycle)

    def bridges(self, claims: Sequence[tuple[str, Claim]], cycle: int, count: int) -> list[Dream]:
        """Dreams that join two memories with as few words in common as chance finds."""
        facts = [(m, c) for m, c in claims if not c.wish]
        if len({m for m, _ in facts}) < 2:
            return []
        rng = Random(f"{self.seed}:bridge:{cycle}")
        plan: list[_Planned] = []
        for _ in range(count):
            draws = [rng.sample(facts, 2) for _ in range(8)]
            a, b = min(
                draws,
                key=lambda d: (d[0][0] == d[1][0], len(words(d[0][1].text) & words(d[1][1].text))),
            )
            if a[0] != b[0]:
                plan.append(_Planned("bridge", (a[0], b[0]), (a[1], b[1])))
        return self._dream(plan, cycle)

    def _dream(self, plan: Sequence[_Planned], cycle: int) -> list[Dream]:
        s = self.settings
        seed = (self.seed * 1_000 + cycle) * 1_000_000 + self._made  # no two draws are alike
        sampling = Sampling(_DREAM_TOKENS, s.temperature, s.min_p, seed=seed)
        replies = self.engine.generate([prompts.dream(kind, claims) for kind, _, claims in plan], sampling)
        dreams = []
        for (kind, memories, claims), reply in zip(plan, replies, strict=True):
            sample = prompts.read_sample(reply.text) if reply.finished else None
            prompt, answer = sample or ("", reply.text)
            self._made += 1
            dreams.append(
                Dream(
                    id=f"d{cycle:02d}-{self._made:05d}",
                    kind=kind,
                    memories=memories,
                    claim="\n".join(c.text for c in claims),
                    prompt=prompt,
                    reply=answer,
                    cycle=cycle,
                    reason="" if sample else "unreadable",
                )
            )
        return dreams


def related(a: str, b: str) -> bool:
    """Whether two claims share a word of three letters or more; else the model need not be asked."""
    return any(len(word) > 2 for word in words(a) & words(b))


def _grounded(claims: Sequence[Claim], text: str) -> tuple[Claim, ...]:
    """The claims that are made of the text's own words, or what of the text the others were meant to be."""
    told = words(text)
    if own := tuple(claim for claim in claims if words(claim.text) <= told):
        return own
    meant = (replace(claim, text=found) for claim in claims if (found := _meant(claim.text, text)))
    return tuple(dict.fromkeys(meant))


def _meant(claim: str, text: str) -> str:
    """As many words of one sentence as the claim has, those most like it; nothing if none are like it."""
    length = len(claim.split())
    sentences = [sentence.split() for sentence in re.split(r"(?<=[.!?])\s+", text)]
    stretches = [
        " ".join(sentence[start : start + length])
        for sentence in sentences
        for start in range(max(len(sentence) - length, 0) + 1)
    ]
    likeness = SequenceMatcher(b=claim.casefold(), autojunk=False)

    def like(stretch: str) -> float:
        likeness.set_seq1(stretch.casefold())
        return likeness.ratio()

    best = max(stretches, key=like)
    return best[:1].upper() + best[1:].rstrip(".,;:!?") + "." if like(best) >= COPIED else ""
