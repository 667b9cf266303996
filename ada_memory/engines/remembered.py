"""What the base says of anchors, kept while it is likely to be asked for again, within a bound."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Protocol, TypeVar

MOST = 2**28
"""Bytes that are kept. Of the seedling that is every anchor of a night, of a large model the latest ones."""


class Sized(Protocol):
    """An array of torch or MLX."""

    @property
    def nbytes(self) -> int: ...


State = TypeVar("State", bound=Sized)


class Remembered(dict[int, State]):
    """States by anchor, the oldest first."""

    taken = 0

    def remember(self, states: Iterable[tuple[int, State]], needed: Collection[int]) -> None:
        """Add the states that are not there yet; the oldest of what is not needed now gives way."""
        for anchor, state in states:
            if anchor not in self:
                self[anchor] = state
                self.taken += state.nbytes
        if self.taken > MOST:
            self._let_go(needed)

    def _let_go(self, needed: Collection[int]) -> None:
        for anchor in [anchor for anchor in self if anchor not in needed]:
            self.taken -= self.pop(anchor).nbytes
            if self.taken <= MOST:
                return
