"""Whole days of the circadian loop on a clock that is stepped: changes of the hour, suspends, false clocks.

The machine's own clock is replaced, for the journal, APScheduler and the daemon's `utc_now` alike.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import time_machine
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from pydantic import ValidationError

from ada_memory.circadian.bell import Bell
from ada_memory.circadian.hours import clock_night, reread_local_zone
from ada_memory.circadian.night import NightRunner
from ada_memory.circadian.sunset import Sunset
from ada_memory.errors import Conflict
from ada_memory.hippocampus.journal import Journal
from ada_memory.records import Draft, Memory, Message, NightKind, NightRecord, Salience, StageRecord
from ada_memory.service.daemon import utc_now
from ada_memory.service.schemas import NewInteraction
from ada_memory.settings import Settings, SunsetSettings
from tests.nights import TOYS, Mind

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
BERLIN = SunsetSettings(at="02:00", timezone="Europe/Berlin", capacity=3, min_gap_minutes=30)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


class House:
    """A journal, a sunset, and a bed in which nights last until somebody says that they are over."""

    def __init__(self, path: Path, settings: SunsetSettings, traveller: time_machine.Traveller) -> None:
        self.settings = settings
        self.path = path
        self.traveller = traveller
        self.journal = Journal.open(path)
        self.asleep: NightRecord | None = None
        self.lasts = timedelta(0)
        self.learns = True
        self.nights: list[tuple[NightKind, str]] = []
        self.sunset = Sunset(settings, self.journal, self.sleep, utc_now)

    def close(self) -> None:
        self.sunset.close()
        self.journal.close()

    def restart(self) -> None:
        """Another daemon over the same journal; a night that was under way is resumed by it."""
        self.close()
        self.journal = Journal.open(self.path)
        self.sunset = Sunset(self.settings, self.journal, self.sleep, utc_now)

    async def sleep(self, kind: NightKind) -> NightRecord:
        if self.asleep is not None:
            raise Conflict("a night is under way already")
        upto, taken = self.journal.position(), {night.id for night in self.journal.nights(10_000)}
        now = utc_now()
        name = clock_night(self.settings, now) if kind == "clock" else f"p{upto}-{len(taken)}"
        assert name not in taken, "a second night of one name"
        night = NightRecord(name, kind, now, upto, "gen-0000", 0)
        self.asleep = self.journal.open_night(night).result()
        self.nights.append((kind, name))
        if not self.lasts:
            self.wake()
        return night

    def wake(self) -> None:
        """The night ends; it has learned everything up to its position, or nothing."""
        night, self.asleep = self.asleep, None
        assert night is not None
        now = utc_now()
        if self.learns:
            learned = {
                m.id: ("learned", "") for m in self.journal.waiting() if m.interactions[0] <= night.upto
            }
            self.journal.record_stage(StageRecord(night.id, "activate", "done", "", now, now)).result()
            self.journal.settle(night.id, learned).result()  # type: ignore[arg-type]
        self.journal.record_stage(StageRecord(night.id, "report", "done", "", now, now)).result()

    def say(self, at: datetime | None = None) -> None:
        """An app posts something that waits for the weights."""
        receipt = self.journal.append(Draft((Message("user", "A fact."),), at or utc_now())).result()
        memory = Memory(
            f"m{receipt.position}",
            "A fact.",
            "user",
            at or utc_now(),
            "weights",
            Salience(0.6),
            (receipt.position,),
        )
        self.journal.encode(receipt.position, [(memory, None)], "none").result()

    def move(self, to: datetime) -> None:
        """Set the clock, or let time pass without anybody looking."""
        self.traveller.move_to(to.timestamp(), tick=False)  # a datetime would set the zone too

    async def live(self, until: datetime, step: timedelta = MINUTE) -> None:
        """Let time pass, with a look at every step; a night ends once it has lasted long enough."""
        while utc_now() < until:
            if self.asleep is not None and utc_now() - self.asleep.opened_at >= self.lasts:
                self.wake()
            await self.sunset.look()
            self.move(utc_now() + step)

    def clock_nights(self) -> list[str]:
        return [name for kind, name in self.nights if kind == "clock"]


Build = Callable[[SunsetSettings, str], House]


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Build]:
    houses: list[House] = []
    with time_machine.travel(0.0, tick=False) as traveller:

        def made(settings: SunsetSettings, now: str) -> House:
            traveller.move_to(utc(now).timestamp(), tick=False)
            houses.append(House(tmp_path / f"{len(houses)}" / "journal.db", settings, traveller))
            return houses[-1]

        yield made
        for house in houses:
            house.close()


# Changes of the hour -----------------------------------------------------------------------------------

CHANGES = [  # place, the night in which time is lost, the night in which time comes twice
    ("Europe/Berlin", "2026-03-29", "2026-10-25"),
    ("America/New_York", "2026-03-08", "2026-11-01"),
    ("Australia/Lord_Howe", "2026-10-04", "2026-04-05"),  # by half an hour
    ("America/Santiago", "2026-09-06", "2026-04-04"),  # at midnight
    ("Africa/Cairo", "2026-04-24", "2026-10-29"),  # at midnight, north of the equator
]
TIMES = ["00:00", "00:30", "01:45", "02:00", "02:15", "02:30", "03:00", "23:30"]


@pytest.mark.parametrize(("place", "lost", "twice"), CHANGES)
def test_every_date_around_a_change_of_the_hour_has_its_one_night(
    build: Build, place: str, lost: str, twice: str
) -> None:
    for day in (lost, twice):
        dates = [date.fromisoformat(day) + timedelta(days=offset) for offset in (-1, 0, 1, 2)]
        midnights = [datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(place)) for day in dates]
        assert midnights[0].utcoffset() != midnights[3].utcoffset(), "the hour does not change"
        begin, end = midnights[0].astimezone(UTC), midnights[3].astimezone(UTC)
        for at in TIMES:
            settings = SunsetSettings(at=at, timezone=place, capacity=0)
            house = build(settings, (begin - MINUTE).isoformat()[:16])
            asyncio.run(house.live(end))
            assert house.clock_nights() == [day.isoformat() for day in dates[:3]], at


@pytest.mark.parametrize(("place", "begin", "at"), [
    ("Europe/Berlin", "2026-03-28T22:30", "02:30"),  # does not exist
    ("Europe/Berlin", "2026-10-24T22:30", "02:30"),  # comes twice
    ("Australia/Lord_Howe", "2026-10-03T13:30", "02:15"),
    ("Australia/Lord_Howe", "2026-04-04T13:30", "01:45"),
    ("America/Santiago", "2026-09-06T02:30", "00:00"),
    ("Africa/Cairo", "2026-10-29T19:00", "23:30"),
])  # fmt: skip
def test_apscheduler_itself_rings_through_a_change_of_the_hour(
    build: Build, place: str, begin: str, at: str
) -> None:
    house = build(SunsetSettings(at=at, timezone=place, capacity=0), begin)

    async def story() -> None:
        bell = Steps(house.sunset.look)
        for _ in range(5 * 60):
            await bell.step(utc_now() + MINUTE, house)
        bell.close()

    asyncio.run(story())
    [night] = house.clock_nights()
    [record] = house.journal.nights()
    place_of = ZoneInfo(place)
    assert night == record.opened_at.astimezone(place_of).date().isoformat()
    wanted = datetime.combine(date.fromisoformat(night), datetime.strptime(at, "%H:%M").time(), place_of)  # noqa: DTZ007
    assert record.opened_at == wanted.astimezone(UTC), "in the very minute"


class Steps:
    """The real bell, which notices within a millisecond that the clock has been moved."""

    def __init__(self, look: Callable[[], Any]) -> None:
        self._look = look
        self.rings = 0
        self._bell = Bell(self._ring, recheck_seconds=0.001)
        self._bell.start()

    async def _ring(self) -> None:
        await self._look()
        self.rings += 1

    async def step(self, to: datetime, house: House) -> None:
        """Move the clock, and wait for the ring that must follow."""
        before = self.rings
        house.move(to)
        for _ in range(5_000):
            await asyncio.sleep(0.001)
            if self.rings > before:
                await asyncio.sleep(0.001)  # and until APScheduler knows that this ring is over
                return
        raise AssertionError("the bell is silent")

    def close(self) -> None:
        self._bell.close()


@pytest.mark.parametrize("jump", [-HOUR, -DAY, -30 * DAY, HOUR, 365 * DAY, 50 * 365 * DAY])
def test_the_bell_goes_on_once_a_minute_after_the_clock_was_set(build: Build, jump: timedelta) -> None:
    house = build(BERLIN, "2026-06-10T12:00")

    async def story() -> None:
        bell = Steps(house.sunset.look)
        await bell.step(utc_now() + MINUTE, house)
        house.move(utc_now() + jump)
        await asyncio.sleep(0.05)
        assert bell.rings == (1 if jump < timedelta(0) else 2), (
            "minutes that were skipped are not made up for"
        )
        for ring in range(bell.rings, 5):
            await bell.step(utc_now() + MINUTE, house)
            assert bell.rings == ring + 1
        bell.close()

    asyncio.run(story())


# A machine that slept ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("waking", "night"), [("2026-06-11T07:00", "2026-06-11"), ("2026-06-15T07:00", "2026-06-15")]
)
def test_a_suspend_over_the_window_is_one_night_on_waking(build: Build, waking: str, night: str) -> None:
    house = build(BERLIN, "2026-06-10T12:00")
    house.say()
    asyncio.run(house.live(utc("2026-06-10T23:00")))  # 01:00 in Berlin
    house.move(utc(waking))
    asyncio.run(house.live(utc(waking) + 12 * HOUR))
    assert house.nights == [("clock", night)]
    asyncio.run(house.live(utc(waking) + DAY))
    assert len(house.nights) == 2, "and the next in its time"


def test_on_waking_there_is_no_night_for_nothing(build: Build) -> None:
    house = build(BERLIN, "2026-06-09T22:00")
    house.say()
    asyncio.run(house.live(utc("2026-06-10T23:00")))
    assert house.clock_nights() == ["2026-06-10"]
    house.move(utc("2026-06-11T07:00"))
    asyncio.run(house.live(utc("2026-06-11T08:00")))
    house.say()  # it came after the sunset that was missed: its night is the next
    asyncio.run(house.live(utc("2026-06-11T23:55")))
    assert house.clock_nights() == ["2026-06-10"]
    refusal = house.sunset.outlook().last_refusal
    assert refusal == (
        utc("2026-06-11T07:00"),
        "the sunset of 2026-06-11 was missed, and nothing waits from before it",
    )
    asyncio.run(house.live(utc("2026-06-12T01:00")))
    assert house.clock_nights() == ["2026-06-10", "2026-06-12"]


def test_without_catch_up_a_missed_sunset_is_gone(build: Build) -> None:
    house = build(BERLIN.model_copy(update={"catch_up": False}), "2026-06-10T12:00")
    house.say()
    house.move(utc("2026-06-11T07:00"))
    asyncio.run(house.live(utc("2026-06-11T20:00")))
    assert house.nights == []
    refusal = house.sunset.outlook().last_refusal
    assert refusal is not None and refusal[1].endswith("was missed, and sunset.catch_up is off")
    asyncio.run(house.live(utc("2026-06-12T01:00")))
    assert house.nights == [("clock", "2026-06-12")]


@pytest.mark.parametrize("days", [0, 5])
def test_a_suspend_that_begins_in_a_night_resumes_it_and_starts_no_other(build: Build, days: int) -> None:
    house = build(BERLIN, "2026-06-10T22:00")
    house.lasts = 8 * HOUR
    house.say()
    asyncio.run(house.live(utc("2026-06-11T00:10")))
    assert house.asleep is not None
    house.move(utc("2026-06-11T07:00") + timedelta(days=days))
    asyncio.run(house.live(utc("2026-06-11T16:00") + timedelta(days=days)))
    assert house.nights == [("clock", "2026-06-11")] and house.asleep is None
    asyncio.run(house.live(utc("2026-06-12T01:00") + timedelta(days=days)))
    assert len(house.nights) == 2


# Clocks that lie ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("back", "first"), [(HOUR, "2026-06-14"), (DAY, "2026-06-14"), (30 * DAY, "2026-05-15")]
)
def test_a_clock_that_is_set_back_gives_no_date_a_second_night(
    build: Build, back: timedelta, first: str
) -> None:
    house = build(BERLIN, "2026-06-10T12:00")
    asyncio.run(house.live(utc("2026-06-13T00:30"), 5 * MINUTE))
    slept = ["2026-06-11", "2026-06-12", "2026-06-13"]
    assert house.clock_nights() == slept
    house.move(utc_now() - back)
    asyncio.run(house.live(utc("2026-06-16T12:00"), 5 * MINUTE))
    days = (date.fromisoformat(first) + timedelta(days=offset) for offset in range(40))
    dates = [day.isoformat() for day in days if day.isoformat() <= "2026-06-16"]
    assert house.clock_nights()[3:] == [day for day in dates if day not in slept], (
        "each other date has its own"
    )


def test_a_year_ahead_and_back_silences_nothing(build: Build) -> None:
    house = build(BERLIN, "2026-06-10T12:00")
    house.move(utc("2027-06-10T12:00"))
    for _ in range(3):
        house.say()
    asyncio.run(house.live(utc("2027-06-10T13:00")))
    assert house.nights == [("capacity", "p3-0")]
    house.move(utc("2026-06-10T13:00"))
    assert house.sunset.outlook().gap_until is None
    house.say()
    asyncio.run(house.live(utc("2026-06-10T13:05")))
    assert house.nights[1:] == [("clock", "2026-06-10")], "when it came is not known: it may have been missed"
    for _ in range(3):
        house.say()
    asyncio.run(house.live(utc("2026-06-10T13:10")))
    assert house.nights[2:] == [("capacity", "p7-2")], "capacity goes on"
    house.say()
    house.move(utc("2026-06-11T07:00"))
    asyncio.run(house.live(utc("2026-06-11T07:05")))
    assert house.clock_nights() == ["2026-06-10", "2026-06-11"], "what was missed is caught up"
    asyncio.run(house.live(utc("2026-06-12T00:05")))
    assert house.clock_nights() == ["2026-06-10", "2026-06-11", "2026-06-12"], "and the clock goes on"
    assert house.journal.last_slept() == utc("2026-06-12T00:00")


def test_a_small_step_back_does_not_void_the_gap(build: Build) -> None:
    house = build(BERLIN, "2026-06-10T12:00")
    for _ in range(3):
        house.say()
    asyncio.run(house.live(utc("2026-06-10T12:05")))
    house.move(utc("2026-06-10T11:59"))
    for _ in range(3):
        house.say()
    asyncio.run(house.live(utc("2026-06-10T12:29")))
    assert len(house.nights) == 1
    assert house.sunset.outlook().gap_until == utc("2026-06-10T12:30")
    asyncio.run(house.live(utc("2026-06-10T12:35")))
    assert len(house.nights) == 2


def test_the_time_that_an_app_gives_moves_no_night(tmp_path: Path) -> None:
    stories = []
    with time_machine.travel(0.0, tick=False) as traveller:
        for number, at in enumerate(["0001-01-01T00:00", "2026-06-10T12:00", "9999-12-31T23:59"]):
            traveller.move_to(utc("2026-06-10T12:00").timestamp(), tick=False)
            house = House(tmp_path / f"{number}" / "journal.db", BERLIN, traveller)
            for until in ("2026-06-10T23:00", "2026-06-12T07:00", "2026-06-12T08:00", "2026-06-13T01:00"):
                house.say(utc(at))
                asyncio.run(house.live(utc(until), 5 * MINUTE))
                house.move(utc_now() + 30 * MINUTE)
            stories.append([(night.id, night.kind, night.opened_at) for night in house.journal.nights()])
            house.close()
    assert len(stories[0]) == 3 and stories[0] == stories[1] == stories[2]


@pytest.mark.parametrize("at", ["2026-06-30T23:59:60Z", "2026-06-30T23:59:61+02:00", "2016-12-31T23:60:00Z"])
def test_a_leap_second_is_no_time_here(at: str) -> None:
    with pytest.raises(ValidationError, match="must be a time such as"):
        NewInteraction.model_validate({"messages": [{"role": "user", "content": "Hi."}], "at": at})


@pytest.mark.parametrize("at", ["23:59:60", "23:60", "24:00", "2:00", "02:00:00", "02:00\n"])
def test_sunset_takes_hours_and_minutes(at: str) -> None:
    with pytest.raises(ValidationError):
        SunsetSettings(at=at)


# Zones that change -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("other", "following"), [
    ("Pacific/Auckland", "2026-06-12"),  # it is the 11th there at noon in Berlin, past 02:00
    ("America/Los_Angeles", "2026-06-12"),  # the 11th comes once more, and has had its night
])  # fmt: skip
def test_another_zone_gives_no_date_a_second_night(build: Build, other: str, following: str) -> None:
    house = build(BERLIN, "2026-06-10T12:00")
    house.say()
    asyncio.run(house.live(utc("2026-06-11T01:00")))
    assert house.clock_nights() == ["2026-06-11"]
    house.settings = BERLIN.model_copy(update={"timezone": other})
    house.restart()
    house.say()
    asyncio.run(house.live(utc("2026-06-12T10:00")))
    assert house.clock_nights() == ["2026-06-11", following]


def test_a_machine_that_travels_takes_its_sunset_along(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    house = build(BERLIN.model_copy(update={"timezone": ""}), "2026-06-10T22:00")
    asyncio.run(house.live(utc("2026-06-11T00:01")))
    assert house.clock_nights() == ["2026-06-11"]
    monkeypatch.setenv("TZ", "America/New_York")
    asyncio.run(house.live(utc("2026-06-12T05:59")))
    assert house.clock_nights() == ["2026-06-11"]
    asyncio.run(house.live(utc("2026-06-12T06:01")))
    assert house.clock_nights() == ["2026-06-11", "2026-06-12"]
    monkeypatch.undo()
    reread_local_zone()


# Nights that meet --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lasts", "second"), [(10 * MINUTE, "12:30"), (45 * MINUTE, "12:45")])
def test_capacity_reached_during_a_night_makes_one_night_after_it(
    build: Build, lasts: timedelta, second: str
) -> None:
    house = build(BERLIN, "2026-06-10T12:00")
    house.lasts = lasts
    for _ in range(3):
        house.say()

    async def story() -> None:
        await house.live(utc("2026-06-10T12:05"))
        for _ in range(4):
            house.say()
            assert await house.sunset.on_memory() is None  # the last that anybody says
        await house.live(utc("2026-06-10T20:00"))

    asyncio.run(story())
    opened = [night.opened_at for night in reversed(house.journal.nights())]
    assert opened == [utc("2026-06-10T12:00"), utc(f"2026-06-10T{second}")]
    assert [kind for kind, _ in house.nights] == ["capacity", "capacity"]


def test_a_night_in_which_too_little_came_is_followed_by_none(build: Build) -> None:
    house = build(BERLIN, "2026-06-10T12:00")
    house.lasts = 10 * MINUTE
    for _ in range(3):
        house.say()

    async def story() -> None:
        await house.live(utc("2026-06-10T12:05"))
        house.say()
        await house.live(utc("2026-06-10T20:00"))

    asyncio.run(story())
    assert [kind for kind, _ in house.nights] == ["capacity"]


@pytest.mark.parametrize(("kind", "learns", "nights"), [
    ("manual", True, [("manual", "p1-0")]),  # it has learned what the clock's would have
    ("manual", False, [("manual", "p1-0"), ("clock", "2026-06-11")]),
    ("capacity", True, [("capacity", "p1-0")]),
])  # fmt: skip
def test_a_night_that_runs_at_sunset_puts_the_clock_night_off(
    build: Build, kind: NightKind, learns: bool, nights: list[tuple[str, str]]
) -> None:
    house = build(BERLIN.model_copy(update={"capacity": 0}), "2026-06-10T23:00")
    house.lasts, house.learns = 2 * HOUR, learns
    house.say()

    async def story() -> None:
        await house.live(utc("2026-06-10T23:50"))
        await house.sleep(kind)
        await house.live(utc("2026-06-11T12:00"))

    asyncio.run(story())
    assert house.nights == nights


def test_what_came_between_the_two_gets_its_clock_night(build: Build) -> None:
    house = build(BERLIN.model_copy(update={"capacity": 0, "catch_up": False}), "2026-06-10T23:00")
    house.lasts = HOUR
    house.say()

    async def story() -> None:
        await house.live(utc("2026-06-10T23:50"))
        await house.sleep("manual")
        house.say()
        await house.live(utc("2026-06-11T12:00"))

    asyncio.run(story())
    assert house.nights == [("manual", "p1-0"), ("clock", "2026-06-11")]
    assert house.journal.nights(1)[0].opened_at == utc("2026-06-11T00:50"), "as soon as the other was over"


@pytest.mark.parametrize("clock_first", [True, False])
def test_clock_and_hand_at_the_same_instant_make_one_night(
    build: Build, tmp_path: Path, clock_first: bool
) -> None:
    """The real runner, with stages that take milliseconds."""
    mind = Mind(tmp_path / "mind", Settings(sunset=BERLIN))
    house = build(BERLIN, "2026-06-10T23:59")
    mind.say("My cat is called Miso.")

    async def story() -> list[object]:
        runner = _runner(mind)
        sunset = Sunset(BERLIN, mind.journal, runner.sleep, utc_now)
        await sunset.look()
        house.move(utc("2026-06-11T00:00"))
        asked: list[Any] = [sunset.look(), runner.sleep("manual")]
        first = await asyncio.gather(*(asked if clock_first else reversed(asked)), return_exceptions=True)
        with pytest.raises(Conflict, match="under way"):
            await runner.sleep("manual")
        await runner.wait()
        for _ in range(3):
            house.move(utc_now() + MINUTE)
            await sunset.look()
            await runner.wait()
        again = [await runner.sleep("manual")]
        await runner.wait()
        again.append(await runner.sleep("manual"))
        await runner.wait()
        await runner.close()
        assert len({night.id for night in again}) == 2, "by hand one may sleep as often as one likes"
        return list(first)

    try:
        answers = asyncio.run(story())
        nights = [night.kind for night in reversed(mind.journal.nights())]
        refused = [answer for answer in answers if answer is None or isinstance(answer, Conflict)]
        assert len(refused) == 1
        assert nights in (["clock", "manual", "manual"], ["manual", "manual", "manual"])
    finally:
        mind.journal.close()


def test_a_real_night_through_a_suspend_with_capacity_reached_in_it(build: Build, tmp_path: Path) -> None:
    mind = Mind(tmp_path / "mind", Settings(sunset=BERLIN))
    house = build(BERLIN, "2026-06-10T23:59")
    mind.say("My cat is called Miso.")
    mind.toy(hang="train")

    async def story() -> None:
        runner = _runner(mind)
        sunset = Sunset(BERLIN, mind.journal, runner.sleep, utc_now)
        await sunset.look()
        house.move(utc("2026-06-11T00:00"))
        assert await sunset.look() is not None
        while runner.state()["stage"] != "train":
            await asyncio.sleep(0.01)
        for text in ("My dog is called Bruno.", "I live in Lisbon.", "My sister is called Ada."):
            mind.say(text)
            assert await sunset.on_memory() is None
        house.move(utc("2026-06-11T07:00"))
        assert await sunset.look() is None
        mind.toy()
        await runner.wait()
        for _ in range(90):
            house.move(utc_now() + MINUTE)
            await sunset.look()
            await runner.wait()
        await runner.close()

    try:
        asyncio.run(story())
        nights = [(night.id, night.kind) for night in reversed(mind.journal.nights())]
        assert nights == [("2026-06-11", "clock"), ("p4", "capacity")]
        assert mind.journal.waiting() == []
    finally:
        mind.journal.close()


def _runner(mind: Mind) -> NightRunner:
    return NightRunner(
        mind.home,
        mind.settings,
        mind.journal,
        mind.base,
        mind.events.append,
        mind.voice.swap,
        utc_now,
        stages=TOYS,
        patience=5.0,
    )


# Whatever happens --------------------------------------------------------------------------------------


class Life(RuleBasedStateMachine):
    """A house to which anything happens that can happen to a laptop, and its clock."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.travel = time_machine.travel(utc("2026-03-27T12:00").timestamp(), tick=False)
        place = SunsetSettings(at="02:30", timezone="Europe/Berlin", capacity=3, min_gap_minutes=30)
        self.house = House(Path(self.folder.name) / "journal.db", place, self.travel.start())

    def teardown(self) -> None:
        self.house.close()
        self.travel.stop()
        self.folder.cleanup()

    @rule(minutes=st.integers(1, 400))
    def time_passes(self, minutes: int) -> None:
        asyncio.run(self.house.live(utc_now() + timedelta(minutes=minutes), 4 * MINUTE))

    @rule(hours=st.sampled_from([0.5, 3, 8, 24, 49, 24 * 6]))
    def the_machine_sleeps(self, hours: float) -> None:
        self.house.move(utc_now() + timedelta(hours=hours))

    @rule(by=st.sampled_from([HOUR, DAY, 30 * DAY, 365 * DAY]), back=st.booleans())
    def the_clock_is_set(self, by: timedelta, back: bool) -> None:
        self.house.move(utc_now() - by if back else utc_now() + by)

    @rule(count=st.integers(1, 4), at=st.sampled_from([None, "0001-01-01T00:00", "9999-12-31T23:59"]))
    def an_app_posts(self, count: int, at: str | None) -> None:
        for _ in range(count):
            self.house.say(utc(at) if at else None)
        asyncio.run(self.house.sunset.on_memory())

    @precondition(lambda self: self.house.asleep is None)
    @rule()
    def somebody_says_sleep(self) -> None:
        asyncio.run(self.house.sleep("manual"))

    @rule()
    def the_daemon_is_restarted(self) -> None:
        self.house.restart()

    @rule(learns=st.booleans(), lasts=st.sampled_from([timedelta(0), 20 * MINUTE, 5 * HOUR]))
    def the_model_is_changed(self, learns: bool, lasts: timedelta) -> None:
        self.house.learns, self.house.lasts = learns, lasts

    @invariant()
    def no_date_has_two_nights(self) -> None:
        dates = self.house.clock_nights()
        assert len(set(dates)) == len(dates)

    @rule()
    def nothing_waits_for_ever(self) -> None:
        """From any state, two ordinary days with enough to learn leave nothing unlearned."""
        house = self.house
        house.learns, house.lasts = True, timedelta(0)
        if house.asleep is not None:
            house.wake()
        for _ in range(3):
            house.say()
        asyncio.run(house.live(utc_now() + 2 * DAY + 5 * MINUTE, 5 * MINUTE))
        assert house.journal.waiting_count() == 0

    @rule()
    def every_new_date_has_its_night(self) -> None:
        """From any state, on dates that never were, the clock keeps its hour."""
        house = self.house
        house.learns, house.lasts = True, timedelta(0)
        if house.asleep is not None:
            house.wake()
        latest = max([utc_now(), *(night.opened_at for night in house.journal.nights(10_000))])
        house.move(latest.replace(hour=12) + 3 * DAY)
        before = len(house.clock_nights())
        asyncio.run(house.live(utc_now() + 2 * DAY, 5 * MINUTE))
        kept = house.clock_nights()[before:]
        days = [(latest.replace(hour=12) + timedelta(days=offset)).date().isoformat() for offset in (3, 4, 5)]
        assert kept in (days, days[1:])


def test_whatever_happens_to_a_machine_and_its_clock() -> None:
    config = settings(
        max_examples=25,
        stateful_step_count=15,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Life, settings=config)
