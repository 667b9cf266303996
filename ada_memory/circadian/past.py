"""What the serving generation knows already, and the samples that keep it known.

The journal enters; rows of `known.jsonl` leave: each learned memory with the dreams that taught it, whether
it is due for a review, and which of tonight's memories may contradict it. Nothing of it is dreamt again: the
night rehearses with the samples that were verified when the memory was new.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from ada_memory.circadian import spacing
from ada_memory.hippocampus.journal import Journal
from ada_memory.hippocampus.rehearsal import Sampled
from ada_memory.records import Memory

NEAREST = 4
"""Known memories that are compared with each new one: it may say that they are no longer true."""


@dataclass(frozen=True, slots=True)
class Line:
    """The generations from the first to the serving one, the nights that made them, and what they know.

    `learned` says in which of these nights a memory was learned last; `lost` are the memories that only
    generations beside the line have learned.
    """

    generations: tuple[str, ...]
    nights: tuple[str, ...]
    learned: Mapping[str, str]
    lost: tuple[str, ...]


def line(journal: Journal, serving: str) -> Line:
    """The line that ends with the serving generation."""
    by_id = {generation.id: generation for generation in journal.generations()}
    chain = []
    current: str | None = serving
    while current in by_id:
        chain.append(by_id[current])
        current = by_id[current].parent
    chain.reverse()
    nights = tuple(generation.night for generation in chain if generation.night)
    within = set(nights)
    learned: dict[str, str] = {}
    beside: dict[str, None] = {}
    over: set[str] = set()
    for memory, night, outcome in journal.settled():
        if night in within:
            learned.pop(memory, None)
            if outcome == "learned":
                learned[memory] = night
            elif outcome in ("superseded", "skipped"):
                over.add(memory)
        elif outcome == "learned":
            beside[memory] = None
    return Line(
        tuple(generation.id for generation in chain),
        nights,
        learned,
        tuple(memory for memory in beside if memory not in learned and memory not in over),
    )


def known(journal: Journal, line: Line, tonight: Sequence[Memory], *, asks: bool) -> list[dict[str, object]]:
    """A row for every learned memory that may be trained, oldest first; with `asks` some are due."""
    memories = [m for m in journal.memories(ids=line.learned) if "no-train" not in m.tags]
    memories.sort(key=lambda memory: memory.interactions[0])
    due = set(spacing.due(line.nights, line.learned, journal.reviews())) if asks else set()
    near = _near(journal, memories, tonight)
    samples: dict[str, list[Sampled]] = {}
    for sample in journal.samples([memory.id for memory in memories], line.generations):
        samples.setdefault(sample.memory, []).append(sample)
    return [
        {
            "id": memory.id, "text": memory.text, "salience": memory.salience.score, "due": memory.id in due,
            "near": near.get(memory.id, []), "samples": [_row(s) for s in samples.get(memory.id, ())],
        }
        for memory in memories
    ]


def _row(sample: Sampled) -> dict[str, object]:
    dream = sample.dream
    return {
        "dream": f"{sample.night}/{dream.id}", "kind": dream.kind, "claim": dream.claim,
        "prompt": dream.prompt, "reply": dream.reply, "part": sample.part,
    }


def _near(journal: Journal, old: Sequence[Memory], tonight: Sequence[Memory]) -> dict[str, list[str]]:
    """For known memories that lie near to new ones by their vectors: which new ones."""
    known = [other.id for other in old]
    by_embedder = cache(lambda embedder: journal.vectors(embedder, known))
    near: dict[str, list[str]] = {}
    for memory in tonight:
        found = journal.vector_of(memory.id)
        if found is None:
            continue
        embedder, vector = found
        ids, matrix = by_embedder(embedder)
        for at in (matrix @ vector).argsort()[::-1][:NEAREST] if ids else ():
            near.setdefault(ids[at], []).append(memory.id)
    return near
