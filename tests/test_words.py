"""Likeness of wording: what is found by rare words is what comparing all would find."""

from __future__ import annotations

import random

import pytest

from ada_memory.words import Alikes, overlap


@pytest.mark.parametrize("above", [0.0, 0.5, 0.8, 0.99])
def test_alikes_are_those_that_comparing_all_would_find(above: float) -> None:
    draw = random.Random(above)
    letters = "abcdefghijkl"

    def words(most: int) -> frozenset[str]:
        # the earlier a letter, the more often: there are rare words, as in questions
        places = [int(len(letters) * draw.random() ** 2) for _ in range(draw.randint(1, most))]
        return frozenset(letters[place] for place in places)

    sets = [words(9) for _ in range(60)]
    alikes = Alikes(sets, above)
    asked = [*sets[:20], *(words(9) for _ in range(300))]
    found = [one in alikes for one in asked]
    assert found == [any(overlap(one, other) > above for other in sets) for one in asked]
    assert {True, False} <= set(found) or above == 0
    assert frozenset() not in alikes
