"""How long a night will take: arithmetic on invented timings."""

from __future__ import annotations

from typing import Any

import pytest

from ada_memory.circadian.pace import Meter, Pace, Stopwatch, Took, alike, night_left, took, usual


class Clock:
    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def test_a_stopwatch_stands_still_while_it_is_held() -> None:
    clock = Clock()
    watch = Stopwatch(clock)
    clock.at += 5
    watch.hold()
    clock.at += 1000
    watch.hold()
    assert watch.seconds == 5
    watch.go_on()
    clock.at += 2
    assert watch.seconds == 7
    watch.hold()
    watch.start()
    clock.at += 9
    assert watch.seconds == 0, "started while held"


def test_a_stage_is_timed_by_its_own_pace() -> None:
    pace = Pace()
    assert pace.left(3.0) is None
    pace.take(1, 5, 20.0)  # the model was loaded in this time
    assert pace.left(20.0) == 80.0
    pace.take(3, 5, 24.0)
    assert pace.left(24.0) == 4.0, "two pieces in four seconds, and two are left"
    assert pace.left(25.5) == 2.5, "between two tidings time goes on"
    assert pace.left(60.0) == 0.0
    pace.take(5, 5, 28.0)
    assert pace.left(28.0) == 0.0


@pytest.mark.parametrize(("done", "total"), [(0, 9), (5, 3), (-1, 9)])
def test_figures_that_tell_nothing_give_no_estimate(done: float, total: float) -> None:
    pace = Pace()
    pace.take(done, total, 4.0)
    assert pace.left(4.0) is None


def test_what_a_stage_usually_takes_is_the_median_by_memory_where_memories_count() -> None:
    nights = [
        Took(10, {"train": 100.0, "map": 30.0}),
        Took(5, {"train": 100.0, "map": 31.0}),
        Took(20, {"train": 180.0, "map": 80.0}),
    ]
    assert usual(nights, 6) == {"train": 60.0, "map": 31.0}
    assert usual(nights, None) == {"map": 31.0}
    assert usual([Took(0, {"train": 9.0, "map": 1.0})], 6) == {"map": 1.0}
    assert usual([], 6) == {}


def test_the_rest_of_a_night_is_not_known_before_every_part_of_it_is() -> None:
    usually = {"merge": 4.0, "map": 30.0}
    assert night_left(10.0, ["merge", "map"], usually) == 44.0
    assert night_left(10.0, ["merge", "verdict"], usually) is None
    assert night_left(None, ["merge"], usually) is None


def test_only_nights_of_the_same_depth_and_base_are_compared_and_only_whole_stages() -> None:
    report: dict[str, Any] = {
        "depth": "deep", "base": "abc", "figures": {"gather": {"taken": 8}},
        "seconds_by_stage": {"gather": 0.1, "train": 40.0}, "halted": {"stage": "train", "reason": "x"},
    }  # fmt: skip
    assert took(report) == Took(8, {"gather": 0.1})
    assert took({}) == Took(0, {})
    others = [{**report, "depth": "light"}, {**report, "base": "xyz"}, {"night": "of before"}]
    assert alike([*others, report], "deep", "abc") == [Took(8, {"gather": 0.1})]
    assert len(alike([report] * 20, "deep", "abc")) == 7


def test_a_meter_tells_of_stage_and_night() -> None:
    clock = Clock()
    meter = Meter(clock)
    stages = ("dream", "verify", "dataset", "train", "merge", "map", "verdict", "activate")
    meter.begin([Took(2, {"gather": 1.0, **dict.fromkeys(stages, 10.0)})], "report")
    meter.enter("gather")
    clock.at += 0.25
    assert meter.figures() == {"seconds": 0.25, "eta_seconds": 0.8, "night_eta_seconds": None}
    meter.gathered(4)
    meter.enter("dream")
    clock.at += 5
    assert meter.figures() == {"seconds": 5.0, "eta_seconds": 15.0, "night_eta_seconds": 115.0}
    meter.take(1, 2)
    meter.hold()
    clock.at += 500
    assert meter.figures() == {"seconds": 5.0, "eta_seconds": 5.0, "night_eta_seconds": 105.0}
    meter.go_on()
    meter.enter("dream")
    meter.take("much", None)
    assert meter.seconds == 5.0, "it is the same stage"
    meter.enter("report")
    assert meter.figures()["eta_seconds"] is None


def test_a_night_that_is_held_early_ends_there_for_the_meter_too() -> None:
    meter = Meter(Clock())
    meter.begin([Took(1, {"gather": 1.0, "dream": 9.0, "verify": 3.0})], "verify")
    meter.gathered(1)
    meter.enter("dream")
    assert meter.figures()["night_eta_seconds"] == 12.0
