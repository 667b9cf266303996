"""What a night is about: who is taken, who waits, who rests, and why."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ada_memory.circadian import gather
from ada_memory.records import NightRecord
from ada_memory.settings import Settings, SunsetSettings
from ada_memory.sovereign import succession
from ada_memory.sovereign.disk import read_lines
from tests.nights import Mind, whole_night


@pytest.fixture
def mind(tmp_path: Path) -> Iterator[Mind]:
    made = Mind(tmp_path)
    yield made
    made.journal.close()


def gathered(mind: Mind, night: str) -> dict[str, str]:
    rows = read_lines(mind.night(night) / "gather" / "memories.jsonl")
    return {str(row["text"]): str(row["why"]) for row in rows}


def test_the_bar_rises_with_the_buffer_and_not_before() -> None:
    settings = Settings(sunset=SunsetSettings(capacity=10))
    assert gather.bar(settings, 0) == gather.bar(settings, 10) == 0.25
    assert gather.bar(settings, 20) == pytest.approx(0.25 + 0.25 * 0.75 * 0.5)
    assert gather.bar(settings, 10**6) < 0.25 + 0.25 * 0.75
    never = Settings(sunset=SunsetSettings(capacity=0))
    assert gather.bar(never, 64) == 0.25 < gather.bar(never, 65)


def test_slight_memories_are_settled_as_skipped_once_the_night_activates(mind: Mind) -> None:
    mind.say("My cat is called Miso.")
    slight = mind.say("What a rainy morning.", salience=0.2)
    night = asyncio.run(whole_night(mind))
    assert gathered(mind, night) == {"My cat is called Miso.": "today"}
    settled = mind.journal.settlements()[slight]
    assert (settled.outcome, settled.reason) == ("skipped", "salience 0.20 is below 0.25")


def test_slight_memories_of_a_rejected_night_go_on_waiting(mind: Mind) -> None:
    mind.say("My cat is called Miso.")
    mind.say("What a rainy morning.", salience=0.2)
    mind.toy(verdict="reject")
    asyncio.run(whole_night(mind))
    assert len(mind.journal.waiting()) == 2
    mind.toy()
    assert gathered(mind, asyncio.run(whole_night(mind))) == {"My cat is called Miso.": "waiting"}


def test_only_slight_memories_make_a_quiet_night(mind: Mind) -> None:
    mind.say("What a rainy morning.", salience=0.2)
    night = asyncio.run(whole_night(mind))
    assert mind.report(night)["skipped"]["reason"] == "nothing that waits is salient enough to be learned"


def test_parked_thoughts_come_the_night_after(mind: Mind) -> None:
    mind.say("I should learn Portuguese.", tags=["later"], role="thought")
    mind.say("My cat is called Miso.")
    assert gathered(mind, asyncio.run(whole_night(mind))) == {"My cat is called Miso.": "today"}
    mind.say("My dog is called Bruno.")
    night = asyncio.run(whole_night(mind))
    assert gathered(mind, night) == {
        "I should learn Portuguese.": "parked",
        "My dog is called Bruno.": "today",
    }


def test_only_a_parked_thought_is_no_reason_to_sleep_tonight_but_tomorrow(mind: Mind) -> None:
    mind.say("I should learn Portuguese.", tags=["later"])
    night = asyncio.run(whole_night(mind))
    assert "parked" in mind.report(night)["skipped"]["reason"]
    assert gathered(mind, asyncio.run(whole_night(mind))) == {"I should learn Portuguese.": "parked"}


def test_no_app_fills_the_night_alone(mind: Mind) -> None:
    for number in range(gather.PER_APP + 5):
        mind.say(f"Log line {number}.", app="logger", salience=0.9 if number else 0.6)
    mind.say("My cat is called Miso.", app="chat", salience=0.6)
    night = asyncio.run(whole_night(mind))
    found = gathered(mind, night)
    assert len(found) == gather.PER_APP + 1 and "My cat is called Miso." in found
    assert "Log line 0." not in found, "the least salient one waits"
    assert len(mind.journal.waiting()) == 5


def test_what_was_rolled_back_is_learned_again(mind: Mind) -> None:
    cat = mind.say("My cat is called Miso.")
    asyncio.run(whole_night(mind))
    assert mind.report(asyncio.run(whole_night(mind)))["skipped"], "nothing new"
    args = (mind.home, mind.journal, mind.base, mind.voice.swap, lambda: mind.now)
    asyncio.run(succession.rollback(*args))
    night = asyncio.run(whole_night(mind))
    assert gathered(mind, night) == {"My cat is called Miso.": "waiting"}
    assert mind.journal.settlements()[cat].night == night


def test_outcomes_say_why(mind: Mind) -> None:
    learned, old, mute, odd = (mind.say(text) for text in ("Cat.", "Dog was Rex.", "Hm.", "Odd."))
    mind.toy(superseded=[old], unclaimed=[mute], refused=[odd])
    asyncio.run(whole_night(mind))
    found = {memory: (row.outcome, row.reason) for memory, row in mind.journal.settlements().items()}
    assert found == {
        learned: ("learned", "2 samples"),
        old: ("superseded", "newer"),
        mute: ("skipped", "the model found no claim in it"),
        odd: ("set_aside", "not in the memory: a parrot"),
    }
    assert [memory.id for memory in mind.journal.waiting()] == [odd]


def test_what_three_nights_set_aside_is_not_tried_for_ever(mind: Mind) -> None:
    odd = mind.say("Odd.")
    mind.toy(refused=[odd])
    for number in range(gather.ATTEMPTS + 1):
        mind.say(f"News {number}.")
        asyncio.run(whole_night(mind))
    assert mind.journal.settlements()[odd].outcome == "skipped"
    assert mind.journal.waiting() == []


def test_what_the_model_finds_nothing_in_does_not_call_for_another_night(mind: Mind) -> None:
    mute = mind.say("Hm, well, I for one.")
    mind.toy(unclaimed=[mute])
    asyncio.run(whole_night(mind))
    assert mind.journal.settlements()[mute][1:] == (
        "set_aside", "the model found nothing to learn in the memories",
    )
    assert mind.journal.waiting_count() == 0
    assert [memory.id for memory in mind.journal.waiting()] == [mute]


def test_interactions_after_the_opening_wait_for_the_next_night(mind: Mind) -> None:
    mind.say("My cat is called Miso.")
    at = datetime(2026, 3, 1, tzinfo=UTC)
    mind.journal.open_night(NightRecord("p1", "manual", at, 1, "gen-0000", 7)).result()
    mind.say("My dog is called Bruno.")
    assert gathered(mind, asyncio.run(whole_night(mind))) == {"My cat is called Miso.": "today"}
