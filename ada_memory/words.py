"""How alike two texts are worded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from math import ceil


def overlap(one: AbstractSet[str], other: AbstractSet[str]) -> float:
    """Words that both have, of all words of both (the Jaccard index): 0 to 1, and 1 for two empty sets."""
    return len(one & other) / len(one | other) if one or other else 1.0


class Alikes:
    """Sets of words, to be asked `words in alikes`: whether one overlaps with `words` by more than `above`.

    Who shares so much shares one of any few of the words, the rarest say: only sets with one of these are
    compared (the prefix filter of similarity joins, Chaudhuri, Ganti and Kaushik, ICDE 2006).
    """

    def __init__(self, sets: Iterable[frozenset[str]], above: float) -> None:
        self._above = above
        self._with: dict[str, list[frozenset[str]]] = defaultdict(list)
        for words in dict.fromkeys(sets):
            for word in words:
                self._with[word].append(words)

    def __contains__(self, words: AbstractSet[str]) -> bool:
        rarest = sorted(words, key=lambda word: len(self._with.get(word, ())))
        few = rarest[: len(words) - ceil(self._above * len(words)) + 1]
        return any(overlap(words, other) > self._above for word in few for other in self._with.get(word, ()))
