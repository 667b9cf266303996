"""Likeness of wording: rare words decide, and what is found by them is what comparing all would find."""

from __future__ import annotations

import random

import pytest

from ada_memory.words import Alikes, Nearest, overlap


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


def test_nearest_is_who_shares_the_rarest_words() -> None:
    near = Nearest(
        {"dog": {"my", "dog", "is", "bruno"}, "cat": {"my", "cat", "is", "miso"}, "home": {"i", "live", "is"}}
    )
    everybody = ("dog", "cat", "home")
    assert near.of({"what", "is", "my", "cat"}, everybody, 1) == ["cat"]
    assert near.of({"what", "is", "my", "cat"}, everybody, 2) == ["dog", "cat"], "in the order they came in"
    assert near.of({"what", "is", "my", "cat"}, ("dog", "home"), 2) == ["dog", "home"], "among those named"
    assert near.of({"unheard"}, everybody, 1) == ["home"], "of like ones the latest"
    assert Nearest({}).of({"word"}, (), 3) == []
