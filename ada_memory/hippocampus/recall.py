"""Which memories answer a question, and how they are put before the model. Vectors enter, memories leave.

Cosine only. Small minds are searched exactly; in large ones Chroma names candidates, and the float32
vectors of the journal decide. What may not be recalled, or was not worth keeping, never comes back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from ada_memory.errors import BadIndex
from ada_memory.hippocampus.journal import Journal
from ada_memory.hippocampus.vectors import Near, Vectors, exact
from ada_memory.records import Memory, Recalled
from ada_memory.settings import RecallSettings

Floats = NDArray[np.float32]
WIDEN = 8  # candidates asked of Chroma for each memory wanted: it misses some of the nearest


def recall(
    journal: Journal,
    embedder_hash: str,
    query_vector: Floats,
    settings: RecallSettings,
    vectors: Vectors | None = None,
) -> list[Recalled]:
    """The memories nearest to a query (d,), best first: at most `top_k`, none below `min_similarity`.

    Raises:
        BadInput: the query has another width than the vectors of this embedder.
    """
    if settings.top_k <= 0:
        return []
    found: list[Recalled] = []
    for near in _candidates(journal, embedder_hash, query_vector, settings, vectors):
        close = [(name, similarity) for name, similarity in near if similarity >= settings.min_similarity]
        memories = {memory.id: memory for memory in journal.memories(ids=[name for name, _ in close])}
        found = _distinct([Recalled(memories[name], value) for name, value in close if name in memories])
        if len(found) >= settings.top_k or len(close) < len(near):
            break
    return found[: settings.top_k]


def listing(texts: Sequence[str]) -> str:
    """Texts of memories as a model is shown them."""
    # Lines within a memory are indented: a text cannot pose as a memory of its own.
    lines = ["- " + "\n  ".join(text.splitlines()) for text in texts]
    return "\n".join(["Memories:", *lines])


def by_age(recalled: Sequence[Recalled]) -> list[Recalled]:
    """The oldest first; the passages of one message in their order."""
    return sorted(
        recalled, key=lambda item: (item.memory.at, item.memory.interactions, _ordinal(item.memory))
    )


def within(recalled: Sequence[Recalled], most: int) -> list[Recalled]:
    """Those, best first, whose texts together have at most `most` characters; whole ones only."""
    kept: list[Recalled] = []
    for item in recalled:
        if sum(len(other.memory.text) for other in kept) + len(item.memory.text) <= most:
            kept.append(item)
    return kept


def _ordinal(memory: Memory) -> int:
    last = memory.id.rpartition("-")[2]
    return int(last) if last.isdigit() else 0


def may_return(memory: Memory) -> bool:
    """Whether a memory may ever be put before the model by day."""
    return memory.route != "ignored" and "no-recall" not in memory.tags


def nearest(
    journal: Journal, embedder_hash: str, vector: Floats, k: int, exact_below: int, vectors: Vectors | None
) -> Near:
    """The k nearest ids with their cosine, best first; exact unless the mind is large and has an index."""
    if vectors is not None and journal.vector_count(embedder_hash) > exact_below:
        with suppress(BadIndex):  # what is slow is better than no answer; the encode loop fills it anew
            names = [name for name, _ in vectors.query(vector, k * WIDEN)]
            return exact(*journal.vectors(embedder_hash, ids=names), vector, k)
    return exact(*journal.vectors(embedder_hash), vector, k)


def _candidates(
    journal: Journal, embedder_hash: str, query: Floats, settings: RecallSettings, vectors: Vectors | None
) -> Iterator[Near]:
    """Ever wider circles around the query, until a circle holds all there is."""
    k, total = settings.top_k * 2, journal.vector_count(embedder_hash)
    yield nearest(journal, embedder_hash, query, k, settings.exact_below, vectors)
    while k < total:
        k *= 4  # looked at row by row: what the index missed once it may miss again
        yield nearest(journal, embedder_hash, query, k, settings.exact_below, None)


def _distinct(found: Sequence[Recalled]) -> list[Recalled]:
    """Those that may be recalled, each text once: saying a thing twice must not crowd out the rest."""
    texts: set[str] = set()
    kept: list[Recalled] = []
    for item in found:
        text = " ".join(item.memory.text.casefold().split())
        if may_return(item.memory) and text not in texts:
            texts.add(text)
            kept.append(item)
    return kept
