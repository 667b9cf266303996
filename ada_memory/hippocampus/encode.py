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
from ada_memory.hippocampus.recall import may_return, nearest
from ada_memory.hippocampus.router import route
from ada_memory.hippocampus.salience import score
from ada_memory.hippocampus.vectors import Vectors
from ada_memory.records import Interaction, Memory, Role
from ada_memory.settings import Settings

Floats = NDArray[np.float32]
Embed = Callable[[list[str]], Floats]
NEIGHBOURS = 4


def memories_of(interaction: Interaction) -> list[tuple[str, Role]]:
    """The texts of an interaction that may become memories, and who said them.

    The model's own words count only where they stand for a document (kinds rag and code).
    """
    kept: set[Role] = {"user", "tool", "thought"}
    if interaction.draft.kind in ("rag", "code"):
        kept.add("assistant")
    messages = [(m.content.strip(), m.role) for m in interaction.draft.messages if m.role in kept]
    return [(text, role) for text, role in messages if text]


def encode_batch(  # noqa: PLR0913 - every organ of the short-term store meets here
    journal: Journal, embed: Embed, embedder: str, settings: Settings, vectors: Vectors | None = None,
    limit: int = 32,
) -> int:
    """Encode the oldest interactions that wait; returns how many, 0 once there is nothing to do.

    `embed` turns texts into rows (n, d); `embedder` is the hash of what it does so with.

    Raises:
        JournalError: a write failed. Whatever `embed` raises passes through, with nothing kept.
    """
    interactions = journal.unencoded(limit)
    texts = [text for interaction in interactions for text, _ in memories_of(interaction)]
    matrix = embed(texts) if texts else np.zeros((0, 0), dtype=np.float32)
    pending: list[tuple[int, list[tuple[Memory, Floats | None]]]] = []
    row = 0
    for interaction in interactions:
        made: list[tuple[Memory, Floats | None]] = []
        for ordinal, (text, role) in enumerate(memories_of(interaction)):
            known = _known(journal, embedder, matrix, row, settings, vectors)
            memory = _memory(interaction, ordinal, text, role, matrix[row], known, settings)
            made.append((memory, matrix[row]))
            row += 1
        pending.append((interaction.position, made))
    if vectors is not None:
        _index(vectors, [pair for _, made in pending for pair in made])
    writes: list[Future[None]] = [journal.encode(position, made, embedder) for position, made in pending]
    for write in writes:
        write.result()
    return len(interactions)


def _known(  # noqa: PLR0913
    journal: Journal, embedder: str, matrix: Floats, row: int, settings: Settings, vectors: Vectors | None
) -> Floats:
    """The vectors nearest to a row among what is kept, and all that came before it in this batch."""
    near = nearest(journal, embedder, matrix[row], NEIGHBOURS, settings.recall.exact_below, vectors)
    _, kept = journal.vectors(embedder, ids=[name for name, _ in near])
    return np.concatenate([kept, matrix[:row]]) if len(kept) else matrix[:row]


def _memory(  # noqa: PLR0913
    interaction: Interaction, ordinal: int, text: str, role: Role, vector: Floats, known: Floats,
    settings: Settings,
) -> Memory:
    draft = interaction.draft
    salience = score(text, role, draft.kind, vector, known, settings.salience)
    where, _ = route(text, draft.kind, role, settings.router)
    if where == "weights" and salience.score < settings.salience.threshold:
        where = "ignored"
    name = f"m{interaction.position:06}-{ordinal}"
    return Memory(name, text, role, draft.at, where, salience, (interaction.position,), draft.tags)


def _index(vectors: Vectors, pairs: Sequence[tuple[Memory, Floats | None]]) -> None:
    """Put into the index what may be recalled."""
    rows = [(memory.id, vector) for memory, vector in pairs if vector is not None and may_return(memory)]
    if rows:
        vectors.upsert([name for name, _ in rows], np.stack([vector for _, vector in rows]))
