"""What Ada waits for and why she has not slept, each reason with what brings it about."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ada_memory.circadian.sunset import Sunset
from ada_memory.errors import BadModel, WorkerDied
from ada_memory.records import NightKind, NightRecord
from ada_memory.service import standing
from ada_memory.service.encoder import Aside
from ada_memory.service.rooms import Rooms
from ada_memory.service.workers import Worker
from ada_memory.settings import Settings, SunsetSettings
from tests.nights import Mind, whole_night

AWAKE: dict[str, object] = {"state": "awake", "night": None, "stage": None, "progress": None, "held": None}
QUIET = SimpleNamespace(name="voice", deaths=0, fault="")


@pytest.fixture
def mind(tmp_path: Path) -> Iterator[Mind]:
    made = Mind(tmp_path)
    made.now = datetime.now(UTC).replace(hour=21, minute=0)
    yield made
    made.journal.close()


async def never(kind: NightKind) -> NightRecord:
    raise BadModel("the base is gone")


def rooms(mind: Mind, **sunset: Any) -> Rooms:
    """As much of a daemon as is asked."""
    settings = Settings(sunset=SunsetSettings(**{"at": "02:00", "timezone": "UTC", "capacity": 4, **sunset}))
    made = SimpleNamespace(
        journal=mind.journal, settings=settings, clock=lambda: mind.now,
        sunset=Sunset(settings.sunset, mind.journal, never, lambda: mind.now),
        encoder=SimpleNamespace(trouble="", aside={}), voice=SimpleNamespace(worker=QUIET),
        embedding=SimpleNamespace(worker=QUIET),
    )  # fmt: skip
    return cast(Rooms, made)


def said(made: Rooms, mind: Mind, state: Mapping[str, object] = AWAKE) -> dict[str, str]:
    found = standing.read(made, state)
    return {reason.what: reason.detail for reason in found.reasons}


def test_awake_she_waits_for_the_clock_or_for_more(mind: Mind) -> None:
    mind.say("My dog is called Bruno.")
    waits = "1 memory waits; the next night is"
    assert said(rooms(mind), mind) == {"sunset": f"{waits} at 02:00 (in 5 h), or when 3 more wait"}
    assert said(rooms(mind, capacity=0), mind) == {"sunset": f"{waits} at 02:00 (in 5 h)"}
    assert said(rooms(mind, at=""), mind) == {"sunset": f"{waits} when 3 more wait"}
    assert "`ada sleep`" in said(rooms(mind, at="", capacity=0), mind)["nothing"]
    found = standing.read(rooms(mind), AWAKE)
    assert found.reasons[0].at == found.outlook.next_sunset
    assert found.last_night is None


def test_the_least_gap_holds(mind: Mind) -> None:
    for number in range(4):
        mind.say(f"Fact {number}.")
    mind.journal.open_night(NightRecord("p0", "capacity", mind.now, 0, "gen-0000", 0)).result()
    gap = said(rooms(mind, min_gap_minutes=45), mind)["gap"]
    assert gap.startswith("capacity is reached, but the least gap")
    assert gap.endswith("holds until 22:30 (in 90 min)")  # twice 45 minutes: that night taught nothing


def test_a_night_that_was_due_and_did_not_start(mind: Mind) -> None:
    made = rooms(mind, capacity=1)
    mind.say("My dog is called Bruno.")
    asyncio.run(made.sunset.on_memory())
    assert "the base is gone" in said(made, mind)["refused"]


def test_a_night_under_way_says_how_long_it_takes(mind: Mind) -> None:
    state = {"state": "asleep", "night": "p1", "stage": "train", "progress": {"done": 80, "total": 120}}
    assert said(rooms(mind), mind, state) == {"night": "night p1: training, 80 of 120"}
    known = {**state, "depth": "light", "eta_seconds": 120.0, "night_eta_seconds": 600.0}
    assert said(rooms(mind), mind, known) == {
        "night": "night p1 (light): training, 80 of 120, about 2 min left, 10 min until morning"
    }


def test_a_stage_that_cannot_tell_how_far_it_is_tells_what_it_does(mind: Mind) -> None:
    progress = {"done": 0, "total": 0, "note": "the parent's exam, 900 questions"}
    state = {"state": "asleep", "night": "p1", "stage": "map", "progress": progress}
    told = said(rooms(mind), mind, state)["night"]
    assert told.endswith(", the parent's exam, 900 questions")


def test_a_night_that_stands_still_says_why_and_what_to_do(mind: Mind) -> None:
    state = {"state": "asleep", "night": "p1", "stage": "train", "paused": "owner", "paused_since": mind.now}
    told = said(rooms(mind), mind, state)["paused"]
    assert told.endswith("21:00: `ada resume` lets it go on")
    assert "while somebody asks" in said(rooms(mind), mind, {**state, "paused": "asked"})["paused"]


def test_a_night_that_cannot_write_says_why(mind: Mind) -> None:
    state = {"state": "asleep", "night": "p1", "stage": "merge", "trouble": "No space left on device"}
    assert said(rooms(mind), mind, state)["stuck"] == (
        "the night cannot go on, and tries again: No space left on device"
    )


def test_a_held_night_names_the_way_on(mind: Mind) -> None:
    held = {**AWAKE, "night": "p12", "held": "dream"}
    found = said(rooms(mind), mind, held)
    assert found["held"] == "night p12 is held after dream: `ada sleep` finishes it"
    assert "it goes on at 02:00" in found["sunset"]


def test_a_night_that_was_rejected_is_told_until_one_teaches(mind: Mind) -> None:
    mind.say("My dog is called Bruno.")
    mind.toy(verdict="reject")
    for fruitless in (1, 2):
        night = asyncio.run(whole_night(mind))
        last = standing.read(rooms(mind), AWAKE).last_night
        assert last is not None
        assert (last.night, last.outcome, last.fruitless) == (night, "rejected", fruitless)
    told = said(rooms(mind), mind)["last night"]
    assert told.startswith(f"the last of 2 nights that taught nothing, {night}, was rejected: verdict: kl")
    mind.toy()
    asyncio.run(whole_night(mind))
    assert "last night" not in said(rooms(mind), mind)
    last = standing.read(rooms(mind), AWAKE).last_night
    assert last is not None
    assert (last.outcome, last.reason, last.fruitless) == ("learned", "gen-0001", 0)
    asyncio.run(whole_night(mind))
    assert said(rooms(mind), mind)["last night"].endswith("was skipped: nothing waits to be learned")


def test_encoding_that_is_behind(mind: Mind) -> None:
    from ada_memory.records import Draft, Message

    mind.journal.append(Draft((Message("user", "Hello."),), mind.now)).result()
    mind.now = datetime.now(UTC)
    made = rooms(mind)
    assert "encoding" not in said(made, mind)
    made.encoder.trouble = "the embed worker died twice over one request"
    assert said(made, mind)["encoding"].endswith(": the embed worker died twice over one request")
    made.encoder.trouble, mind.now = "", mind.now + timedelta(minutes=12)
    assert said(made, mind)["encoding"] == "encoding is behind: 1 interaction, the first for 12 min"
    made.encoder.aside[1] = Aside("the text is too odd", 1, 0.0)
    assert said(made, mind)["aside"].endswith("tried again: the text is too odd")


async def _started(worker: Worker, times: int) -> None:
    for _ in range(times):
        with pytest.raises(WorkerDied):
            await worker.warm()
    await worker.close()


def test_a_child_that_dies_is_told_with_its_reason(mind: Mind, tmp_path: Path) -> None:
    worker = Worker("embed", [sys.executable, "-c", "raise SystemExit(3)"], tmp_path / "embed.log")
    asyncio.run(_started(worker, 3))
    made = rooms(mind)
    cast(Any, made).embedding.worker = worker
    told = said(made, mind)["worker"]
    assert told.startswith("the embed worker has died 3 times: the embed worker ended before it was ready")
    assert "var/log/embed.log" in told
