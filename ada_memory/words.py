"""How alike two texts are worded."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from math import ceil, log


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


class Nearest:
    """Sets of words by name, to be asked which of them have most in common with a text: rare words say more.

    A shared word counts by the logarithm of how seldom it is (inverse document frequency).
    """

    def __init__(self, sets: Mapping[str, AbstractSet[str]]) -> None:
        self._sets = sets
        seen = Counter(word for words in sets.values() for word in words)
        self._weight = {word: log((len(sets) + 1) / count) for word, count in seen.items()}

    def of(self, words: AbstractSet[str], among: Iterable[str], most: int) -> list[str]:
        """The `most` names with most in common, in the order of `among`; of like ones the later."""
        rank = [
            (sum(self._weight[word] for word in words & self._sets[name]), at, name)
            for at, name in enumerate(among)
        ]
        best = sorted(rank, reverse=True)[:most]
        return [name for _, _, name in sorted(best, key=lambda found: found[1])]
