"""What starts a night: the hours of sunset, a laptop that slept, a buffer that fills, and what it waits for.

Whole days of it, with the clock that is stepped through them, are in test_time.py.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from ada_memory.circadian.hours import clock_night, last_sunset, next_sunset
from ada_memory.circadian.sunset import Outlook, Sunset
from ada_memory.errors import BadModel, BadSetting, Conflict
from ada_memory.records import NightKind, NightRecord, StageName, StageRecord
from ada_memory.settings import CHECKOUT, SunsetSettings
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
        self.refuses: Exception | None = None

    async def sleep(self, kind: NightKind) -> NightRecord:
        if self.refuses is not None:
            raise self.refuses
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


@pytest.mark.parametrize(
    ("place", "at"),
    [
        ("Europe/Berlin", "02:00"),
        ("Australia/Lord_Howe", "02:15"),  # half an hour is lost in spring
        ("Africa/Cairo", "00:00"),  # the spring day begins at 01:00
        ("America/Nuuk", "23:30"),  # lost in spring: the moment comes after midnight, its date stays
    ],
)
def test_each_local_date_has_exactly_one_sunset(place: str, at: str) -> None:
    settings = SunsetSettings(at=at, timezone=place)
    now, seen = utc("2026-01-01T12:00"), []
    for _ in range(365):
        now = next_sunset(settings, now) or now
        seen.append(clock_night(settings, now))
    dates = [(utc("2026-01-01T12:00") + timedelta(days=day)).date().isoformat() for day in range(366)]
    assert seen in (dates[1:], dates[:-1])


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


@pytest.mark.parametrize("name", ["Europe/Atlantis", "Europe", "../etc/passwd", "PST4DST"])
def test_a_zone_that_is_none(mind: Mind, name: str) -> None:
    """Also one that was there when it was set: the daemon says so when it starts, not at two at night."""
    with pytest.raises(BadSetting, match="no such zone") as refused:
        made(mind, SunsetSettings(timezone=name))
    assert "Europe/Berlin" in refused.value.hint


def test_a_machine_whose_zone_is_not_known() -> None:
    code = """
from ada_memory.circadian.hours import zone
from ada_memory.settings import SunsetSettings
zone(SunsetSettings())
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TZ": "PST4DST"},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
    )
    assert "BadSetting: sunset.timezone is empty, and the machine's own time zone is not known" in done.stderr


def test_a_missed_sunset_is_caught_up_once(mind: Mind) -> None:
    bell, bed = made(mind)
    mind.say("My cat is called Miso.")
    mind.now += timedelta(days=3)  # the machine slept through three sunsets
    asyncio.run(bell.look())
    assert len(bed.slept) == 1
    mind.say("My dog is called Bruno.")
    asyncio.run(bell.look())
    assert len(bed.slept) == 1
    mind.now += timedelta(days=1)
    asyncio.run(bell.look())
    assert len(bed.slept) == 2


def test_nothing_is_caught_up_that_was_not_missed(mind: Mind) -> None:
    bell, bed = made(mind)
    mind.now = (last_sunset(BERLIN, mind.now) or mind.now) + timedelta(days=2, hours=1)
    asyncio.run(bell.look())
    assert bed.slept == [], "nothing waits"
    mind.say("My cat is called Miso.")
    asyncio.run(bed.sleep("manual"))
    asyncio.run(bell.look())
    assert [kind for kind, _ in bed.slept] == ["manual"], "it has learned what waited"


def test_what_a_night_since_could_not_learn_is_not_caught_up_again(mind: Mind) -> None:
    bell, bed = made(mind)
    mind.say("My cat is called Miso.")
    mind.now += timedelta(days=2)
    bed.learns = False
    asyncio.run(bed.sleep("manual"))
    asyncio.run(bell.look())
    assert [kind for kind, _ in bed.slept] == ["manual"]


def test_an_app_that_posts_old_interactions_makes_no_missed_night(mind: Mind) -> None:
    bell, bed = made(mind)
    now, mind.now = mind.now, utc("2020-01-01T00:00")
    mind.say("My cat is called Miso.")
    mind.now = now
    asyncio.run(bell.look())
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


def test_what_the_next_night_waits_for(mind: Mind) -> None:
    bell, bed = made(mind)
    asyncio.run(bell.look())
    assert bell.outlook().last_refusal is None, "there was nobody to miss a sunset"
    mind.say("My cat is called Miso.")
    asyncio.run(bed.sleep("manual"))
    mind.now = (next_sunset(BERLIN, mind.now) or mind.now).astimezone(UTC) + timedelta(hours=1)
    asyncio.run(bell.look())
    coming = next_sunset(BERLIN, mind.now)
    missed = clock_night(BERLIN, mind.now)
    nothing = f"the sunset of {missed} was missed, and nothing waits from before it"
    assert bell.outlook() == Outlook(coming, 0, 3, None, (mind.now, nothing))
    for number in range(3):
        mind.say(f"Fact {number}.")
    bed.refuses = Conflict("a night is under way already")
    since = mind.now
    for _ in range(3):
        assert asyncio.run(bell.on_memory()) is None
        assert bell.outlook() == Outlook(coming, 3, 3, None, (since, "a night is under way already"))
        mind.now += timedelta(minutes=1)
    bed.refuses = None
    opened = mind.now
    assert asyncio.run(bell.on_memory()) is not None
    assert bell.outlook() == Outlook(coming, 0, 3, opened + timedelta(minutes=30), None)


def test_a_night_that_cannot_be_started_is_tried_again(mind: Mind, caplog: pytest.LogCaptureFixture) -> None:
    bell, bed = made(mind)
    for number in range(3):
        mind.say(f"Fact {number}.")
    for error in (BadModel("gen-0007 is damaged"), OSError("No space left on device")):
        bed.refuses = error
        caplog.clear()
        for _ in range(3):
            assert asyncio.run(bell.look()) is None
            refusal = bell.outlook().last_refusal
            assert refusal is not None and refusal[1] == str(error)
        said = [record for record in caplog.records if record.levelname == "ERROR"]
        assert len(said) == 1, "not again each minute"
    bed.refuses = None
    assert asyncio.run(bell.look()) is not None
    asyncio.run(bell.look())
    assert bell.outlook().last_refusal is None


def test_starting_catches_up(mind: Mind) -> None:
    async def story() -> list[tuple[NightKind, str]]:
        bell, bed = made(mind)
        mind.say("My cat is called Miso.")
        mind.now += timedelta(days=2)
        await bell.start()
        bell.close()
        bell.close()
        return bed.slept

    assert [kind for kind, _ in asyncio.run(story())] == ["clock"]
