"""When a learned memory is to be asked for again. Reviews enter; due memories leave. Nothing is stored.

Spaced repetition by FSRS (Ye et al., KDD 2022, 10.1145/3534678.3539081; the package fsrs). Two things are not
as with people. Time is counted in nights that were activated, since a model forgets by being trained and not
by waiting. And a grade is not what somebody felt but what was measured: the share of right answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from fsrs import Card, Rating, Scheduler

from ada_memory.hippocampus.rehearsal import Review

RETENTION = 0.99
"""The chance of still being known at which a memory is asked for again: high, since to ask takes no time."""
LONGEST = 30
"""Most nights between two reviews."""
_DAWN = datetime(2000, 1, 1, tzinfo=UTC)


def due(line: Sequence[str], learned: Mapping[str, str], reviews: Iterable[Review]) -> list[str]:
    """The learned memories that the next night should ask for, those that wait longest first.

    `line` are the nights that made the serving generation, oldest first; `learned` says in which of them a
    memory was learned last. Reviews by nights of other lines count for nothing.
    """
    scheduler = Scheduler(
        desired_retention=RETENTION, learning_steps=(), relearning_steps=(), maximum_interval=LONGEST,
        enable_fuzzing=False,
    )
    at = {night: number for number, night in enumerate(line)}
    cards = {
        memory: scheduler.review_card(Card(card_id=0), Rating.Good, _day(at[night]))[0]
        for memory, night in learned.items()
    }
    for review in sorted((r for r in reviews if r.night in at), key=lambda r: at[r.night]):
        if review.memory in cards and at[review.night] > at[learned[review.memory]]:
            cards[review.memory] = scheduler.review_card(
                cards[review.memory], grade(review), _day(at[review.night])
            )[0]
    tonight = _day(len(line))
    waiting = [(card.due, memory) for memory, card in cards.items() if card.due <= tonight]
    return [memory for _, memory in sorted(waiting)]


def grade(review: Review) -> Rating:
    """All right: good; half or more: hard; less: again."""
    share = review.right / review.asked if review.asked else 1.0
    return Rating.Good if share == 1 else Rating.Hard if share >= 0.5 else Rating.Again


def _day(nights: int) -> datetime:
    return _DAWN + timedelta(days=nights)
