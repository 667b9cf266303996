"""The index brought back to what the journal holds. A journal enters, rows leave to the index.

The index is an artifact of the journal: where the two differ, or the index is damaged, it is filled anew.
"""

from __future__ import annotations

from ada_memory.errors import BadIndex
from ada_memory.hippocampus.journal import Journal
from ada_memory.hippocampus.vectors import BATCH, Vectors


def differs(journal: Journal, vectors: Vectors) -> bool:
    """Whether the index lacks rows, has some too many, or cannot be read."""
    try:
        return vectors.count() != journal.recallable_count(vectors.embedder)
    except BadIndex:
        return True


def reindex(journal: Journal, vectors: Vectors) -> int:
    """Fill the index anew with every memory that may be recalled; returns how many rows there are now."""
    vectors.clear()
    names = journal.recallable(vectors.embedder)
    for start in range(0, len(names), BATCH):
        vectors.upsert(*journal.vectors(vectors.embedder, ids=names[start : start + BATCH]))
    return len(names)
