"""From interactions to memories: embedded, weighed, routed, indexed, then kept in one step each.

Interactions that the journal has not encoded enter; memories and vectors leave to the journal and the index.
The index is written first: a crash in between leaves ids there that the journal's next run writes again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray

from ada_memory.hippocampus.journal import Journal
from ada_memory.hippocampus.passages import Passage, passages, to_embed
from ada_memory.hippocampus.reasons import KEPT
from ada_memory.hippocampus.recall import may_return, nearest
from ada_memory.hippocampus.salience import score
from ada_memory.hippocampus.vectors import Vectors
from ada_memory.records import Interaction, Memory, Role, Salience
from ada_memory.settings import RouterSettings, Settings

Floats = NDArray[np.float32]
Embed = Callable[[list[str]], Floats]
NEIGHBOURS = 4
TEXTS = 256  # embedded at a time: a long paste must not be one long request
RECENT = 512  # of the batch itself, how many a memory is compared with


def memories_of(interaction: Interaction, settings: RouterSettings) -> list[tuple[Passage, Role]]:
    """What of an interaction may become memories, in order, and who said it.

    The model's own words count only where they stand for a document (kinds rag and code).
    """
    kind = interaction.draft.kind
    return [
        (passage, message.role)
        for message in interaction.draft.messages
        if message.role != "system"
        for passage in passages(message.content, kind, message.role, settings)
    ]


def encode_batch(  # noqa: PLR0913 - every organ of the short-term store meets here
    journal: Journal,
    embed: Embed,
    embedder: str,
    settings: Settings,
    vectors: Vectors | None = None,
    limit: int = 32,
    skip: frozenset[int] = frozenset(),
) -> int:
    """Encode the oldest interactions that wait; returns how many, 0 once there is nothing to do.

    Positions in `skip` are passed over: with `limit=1` that is how a caller goes on behind one that fails.

    `embed` turns texts into rows (n, d); `embedder` is the hash of what it does so with.

    Raises:
        JournalError: a write failed. Whatever `embed` raises passes through, with nothing kept.
    """
    interactions = journal.unencoded(limit, skip)
    found = [memories_of(interaction, settings.router) for interaction in interactions]
    matrix = _embedded(embed, [to_embed(passage.text) for each in found for passage, _ in each])
    pending: list[tuple[int, list[tuple[Memory, Floats | None]]]] = []
    row = 0
    for interaction, each in zip(interactions, found, strict=True):
        made: list[tuple[Memory, Floats | None]] = []
        for ordinal, (passage, role) in enumerate(each):
            known = _known(journal, embedder, matrix, row, settings, vectors)
            memory = _memory(interaction, ordinal, passage, role, matrix[row], known, settings)
            made.append((memory, matrix[row]))
            row += 1
        pending.append((interaction.position, made))
    if vectors is not None:
        _index(vectors, [pair for _, made in pending for pair in made])
    writes: list[Future[None]] = [journal.encode(position, made, embedder) for position, made in pending]
    for write in writes:
        write.result()
    return len(interactions)


def _embedded(embed: Embed, texts: list[str]) -> Floats:
    parts = [embed(texts[start : start + TEXTS]) for start in range(0, len(texts), TEXTS)]
    return np.concatenate(parts) if parts else np.zeros((0, 0), dtype=np.float32)


def _known(  # noqa: PLR0913
    journal: Journal, embedder: str, matrix: Floats, row: int, settings: Settings, vectors: Vectors | None
) -> Floats:
    """The vectors nearest to a row among what is kept, and those that came before it in this batch."""
    near = nearest(journal, embedder, matrix[row], NEIGHBOURS, settings.recall.exact_below, vectors)
    _, kept = journal.vectors(embedder, ids=[name for name, _ in near])
    before = matrix[max(row - RECENT, 0) : row]
    return np.concatenate([kept, before]) if len(kept) else before


def _memory(  # noqa: PLR0913
    interaction: Interaction,
    ordinal: int,
    passage: Passage,
    role: Role,
    vector: Floats,
    known: Floats,
    settings: Settings,
) -> Memory:
    """A passage as it is kept: what weighs too little is ignored, unless it is kept letter by letter."""
    draft = interaction.draft
    salience = score(passage.text, role, draft.kind, vector, known, settings.salience)
    where = passage.route
    slight = salience.score < settings.salience.threshold
    if slight and (where == "weights" or passage.reason == "tool"):  # a tool's "OK" tells nobody anything
        where = "ignored"
    if where == "verbatim":
        salience = Salience(salience.score, {**salience.reasons, KEPT + passage.reason: 1.0})
    name = f"m{interaction.position:06}-{ordinal}"
    return Memory(name, passage.text, role, draft.at, where, salience, (interaction.position,), draft.tags)


def _index(vectors: Vectors, pairs: Sequence[tuple[Memory, Floats | None]]) -> None:
    """Put into the index what may be recalled."""
    rows = [(memory.id, vector) for memory, vector in pairs if vector is not None and may_return(memory)]
    if rows:
        vectors.upsert([name for name, _ in rows], np.stack([vector for _, vector in rows]))
