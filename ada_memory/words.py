"""How alike two texts are worded."""

from __future__ import annotations

from collections.abc import Set as AbstractSet


def overlap(one: AbstractSet[str], other: AbstractSet[str]) -> float:
    """Words that both have, of all words of both (the Jaccard index): 0 to 1, and 1 for two empty sets."""
    return len(one & other) / len(one | other) if one or other else 1.0
