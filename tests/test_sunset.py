"""What starts a night: the clock in both changes of the hour, a laptop that slept, a buffer that fills."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from ada_memory.circadian import sunset
from ada_memory.circadian.sunset import Sunset, clock_night, last_sunset, next_sunset
from ada_memory.errors import BadSetting, Conflict
from ada_memory.records import NightKind, NightRecord, StageName, StageRecord
from ada_memory.settings import SunsetSettings
from tests.nights import Mind

BERLIN = SunsetSettings(at="02:00", timezone="Europe/Berlin", capacity=3, min_gap_minutes=30)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


class Bed:
    """Where sunset sends people: opens a night that is over at once (or is refused), and remembers."""

    def __init__(self, mind: Mind) -> None:
        self.mind = mind
        self.slept: list[tuple[NightKind, str]] = []
        self.settings = BERLIN
        self.learns = True
        self.conflict = False

    async def sleep(self, kind: NightKind) -> NightRecord:
        if self.conflict:
            raise Conflict("a night is under way already")
        journal, now = self.mind.journal, self.mind.now
        name = clock_night(self.settings, now) if kind == "clock" else f"p{len(self.slept)}"
        night = NightRecord(name, kind, now, journal.position(), "gen-0000", 0)
        journal.open_night(night).result()
        stages: tuple[StageName, ...] = ("activate", "report") if self.learns else ("report",)
        for stage in stages:
            journal.record_stage(StageRecord(name, stage, "done", "", now, now)).result()
        if self.learns:
            learned = {memory.id: ("learned", "") for memory in journal.waiting()}
            journal.settle(name, learned).result()  # type: ignore[arg-type]
        self.slept.append((kind, name))
        return night


@pytest.fixture
def mind(tmp_path: Path) -> Iterator[Mind]:
    made = Mind(tmp_path)
    made.now = datetime.now(UTC)  # ids of interactions carry the real time
    yield made
    made.journal.close()


def made(mind: Mind, settings: SunsetSettings = BERLIN) -> tuple[Sunset, Bed]:
    bed = Bed(mind)
    bed.settings = settings
    return Sunset(settings, mind.journal, bed.sleep, lambda: mind.now), bed


@pytest.mark.parametrize(
    ("now", "last", "following"),
    [
        ("2026-01-15T00:59:59", "2026-01-14T01:00", "2026-01-15T01:00"),
        ("2026-01-15T01:00:00", "2026-01-15T01:00", "2026-01-16T01:00"),
        # Spring: 02:00 does not exist on the 29th, clocks go from 02:00 CET to 03:00 CEST.
        ("2026-03-28T23:00:00", "2026-03-28T01:00", "2026-03-29T01:00"),
        ("2026-03-29T01:00:00", "2026-03-29T01:00", "2026-03-30T00:00"),
        # Autumn: 02:00 comes twice on the 25th, at 00:00 and at 01:00 UTC; the first counts.
        ("2026-10-24T23:30:00", "2026-10-24T00:00", "2026-10-25T00:00"),
        ("2026-10-25T00:30:00", "2026-10-25T00:00", "2026-10-26T01:00"),
        ("2026-10-25T01:30:00", "2026-10-25T00:00", "2026-10-26T01:00"),
    ],
)
def test_sunsets_around_a_moment(now: str, last: str, following: str) -> None:
    for moment in (utc(now), utc(now).astimezone(ZoneInfo("Europe/Berlin"))):
        around = (last_sunset(BERLIN, moment), next_sunset(BERLIN, moment))
        assert [at.astimezone(UTC) for at in around if at] == [utc(last), utc(following)]


def test_each_local_date_has_exactly_one_sunset() -> None:
    now, seen = utc("2026-01-01T00:00"), []
    for _ in range(365):
        now = next_sunset(BERLIN, now) or now
        seen.append(clock_night(BERLIN, now))
    assert len(set(seen)) == 365 and seen == sorted(seen)


@pytest.mark.parametrize(
    ("now", "night"),
    [
        ("2026-10-25T00:00", "2026-10-25"),
        ("2026-10-25T01:00", "2026-10-25"),
        ("2026-03-29T01:00", "2026-03-29"),
        # 00:30 local: the sunset that is being caught up was yesterday's.
        ("2026-06-09T22:30", "2026-06-09"),
    ],
)
def test_a_clock_night_is_named_by_the_date_of_its_sunset(now: str, night: str) -> None:
    assert clock_night(BERLIN, utc(now)) == night


def test_no_clock_no_sunset(mind: Mind) -> None:
    never = SunsetSettings(at="", timezone="Europe/Berlin")
    assert last_sunset(never, utc("2026-01-01T00:00")) is None
    assert made(mind, never)[0].next_sunset() is None


def test_a_zone_that_is_none() -> None:
    with pytest.raises(BadSetting, match="no such zone"):
        next_sunset(SunsetSettings(timezone="Europe/Atlantis"), utc("2026-01-01T00:00"))


def test_the_hour_that_comes_twice_makes_one_night(mind: Mind) -> None:
    bell, bed = made(mind)
    for moment in ("2026-10-25T00:00:01", "2026-10-25T01:00:01", "2026-10-26T01:00:01"):
        mind.now = utc(moment)
        asyncio.run(bell.on_clock())
    assert bed.slept == [("clock", "2026-10-25"), ("clock", "2026-10-26")]


def test_a_missed_sunset_is_caught_up_once(mind: Mind) -> None:
    bell, bed = made(mind)
    mind.say("My cat is called Miso.")
    mind.now += timedelta(days=3)  # the machine slept through three sunsets
    asyncio.run(bell.catch_up())
    assert len(bed.slept) == 1
    mind.say("My dog is called Bruno.")
    asyncio.run(bell.catch_up())
    asyncio.run(bell.on_clock())
    assert len(bed.slept) == 1
    mind.now += timedelta(days=1)
    asyncio.run(bell.catch_up())
    assert len(bed.slept) == 2


def test_nothing_is_caught_up_that_was_not_missed(mind: Mind) -> None:
    bell, bed = made(mind)
    mind.now = (last_sunset(BERLIN, mind.now) or mind.now) + timedelta(days=2, hours=1)
    asyncio.run(bell.catch_up())
    assert bed.slept == [], "nothing waits"
    asyncio.run(bed.sleep("manual"))
    mind.say("My cat is called Miso.")
    asyncio.run(bell.catch_up())
    assert [kind for kind, _ in bed.slept] == ["manual"], "she has slept since the last sunset"
    mind.now += timedelta(days=1)
    off, alone = made(mind, BERLIN.model_copy(update={"catch_up": False}))
    asyncio.run(off.catch_up())
    assert alone.slept == []


def test_an_app_that_posts_old_interactions_makes_no_missed_night(mind: Mind) -> None:
    bell, bed = made(mind)
    now, mind.now = mind.now, utc("2020-01-01T00:00")
    mind.say("My cat is called Miso.")
    mind.now = (last_sunset(BERLIN, now) or now) + timedelta(seconds=1)
    asyncio.run(bell.catch_up())
    assert bed.slept == []


def test_capacity_starts_a_night_but_not_too_often(mind: Mind) -> None:
    bell, bed = made(mind)
    for number in range(3):
        assert bed.slept == []
        mind.say(f"Fact {number}.")
        asyncio.run(bell.on_memory())
    assert bed.slept == [("capacity", "p0")]
    for number in range(3):
        mind.say(f"News {number}.")
    mind.now += timedelta(minutes=29)
    asyncio.run(bell.on_memory())
    assert len(bed.slept) == 1
    mind.now += timedelta(minutes=1)
    asyncio.run(bell.on_memory())
    assert len(bed.slept) == 2


def test_nights_that_teach_nothing_come_ever_less_often(mind: Mind) -> None:
    bell, bed = made(mind)
    bed.learns = False
    for number in range(3):
        mind.say(f"Fact {number}.")
    nights = []
    for _ in range(9):  # an evening of four and a half hours
        asyncio.run(bell.on_memory())
        nights.append(len(bed.slept))
        mind.now += timedelta(minutes=30)
    assert nights == [1, 1, 2, 2, 2, 2, 3, 3, 3]


def test_capacity_zero_never_starts_a_night(mind: Mind) -> None:
    bell, bed = made(mind, BERLIN.model_copy(update={"capacity": 0}))
    mind.say("My cat is called Miso.")
    asyncio.run(bell.on_memory())
    assert bed.slept == []


def test_a_night_under_way_is_as_good(mind: Mind) -> None:
    bell, bed = made(mind)
    bed.conflict = True
    for number in range(3):
        mind.say(f"Fact {number}.")
    assert asyncio.run(bell.on_memory()) is None
    assert asyncio.run(bell.on_clock()) is None


def test_the_scheduler_forgives_a_laptop(mind: Mind) -> None:
    async def story() -> Any:
        bell, _ = made(mind)
        await bell.start()
        assert bell._scheduler is not None
        jobs = {job.id: job for job in bell._scheduler.get_jobs()}
        bell.close()
        bell.close()
        return jobs

    jobs = asyncio.run(story())
    assert set(jobs) == {"sunset", "catch-up"}
    job = jobs["sunset"]
    assert (job.coalesce, job.max_instances) == (True, 1)
    assert job.misfire_grace_time == sunset.MISFIRE_GRACE_SECONDS >= 3600
    first = job.trigger.get_next_fire_time(None, utc("2026-01-15T00:30"))
    assert first == utc("2026-01-15T01:00")


def test_starting_catches_up(mind: Mind) -> None:
    async def story() -> list[tuple[NightKind, str]]:
        bell, bed = made(mind)
        mind.say("My cat is called Miso.")
        mind.now += timedelta(days=2)
        await bell.start()
        bell.close()
        return bed.slept

    assert [kind for kind, _ in asyncio.run(story())] == ["clock"]
