"""Light and deep nights, nights that stand still or are ended by hand; and each memory learned once."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from ada_memory.circadian import morning
from ada_memory.circadian.bundle import read_bundle
from ada_memory.circadian.night import NightRunner
from ada_memory.circadian.pause import Orders, Pause, read_orders, seconds_paused, write_orders
from ada_memory.circadian.stages import NAMES
from ada_memory.errors import Conflict
from ada_memory.settings import CHECKOUT, Settings, SunsetSettings
from ada_memory.sovereign import generations, succession
from ada_memory.sovereign.disk import read_lines
from tests.nights import NOON, Mind, whole_night

QUIET = 0.3


@pytest.fixture
def mind(tmp_path: Path) -> Iterator[Mind]:
    made = Mind(tmp_path, Settings(sunset=SunsetSettings(quiet_seconds=QUIET)))
    yield made
    made.journal.close()


async def eventually(true: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while not true():
        assert asyncio.get_running_loop().time() < deadline, "it did not come about"
        await asyncio.sleep(0.01)


async def asleep(runner: NightRunner, stage: str = "train") -> int:
    """Wait until the child is in the middle of a stage; returns its pid."""
    await eventually(lambda: runner.state()["stage"] == stage and runner.state()["progress"])
    assert runner.child is not None
    return runner.child


def stands_still(pid: int) -> bool:
    return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)


# Pause and resume -------------------------------------------------------------------------------------


def test_a_night_stands_still_and_goes_on_in_the_same_child(mind: Mind) -> None:
    mind.toy(hang="train")
    mind.say("My cat is called Miso.")

    async def story() -> None:
        runner = mind.runner()
        with pytest.raises(Conflict, match="no night"):
            await runner.pause()
        await runner.sleep("manual")
        child = await asleep(runner)
        assert await runner.pause() == await runner.pause() == "p1"
        await eventually(lambda: stands_still(child))
        assert (runner.state()["state"], runner.state()["paused"]) == ("asleep", "owner")
        mind.toy()  # it could go on, if it ran
        before = runner.state()["seconds"]
        await asyncio.sleep(0.3)
        assert runner.running and runner.state()["seconds"] == before, "no work, no seconds"
        await runner.go_on()
        assert runner.state()["paused"] is None
        await runner.wait()
        await runner.close()

    asyncio.run(story())
    assert mind.stages("p1") == [(name, "done") for name in NAMES]
    told = [event["state"] for event in mind.events if event["event"] == "pause"]
    assert told == ["paused", "resumed"]
    assert (mind.night("p1") / "starts.log").read_text("utf-8").split().count("train") == 0, "no second child"


def test_a_pause_before_the_child_is_there_holds_it_too(mind: Mind) -> None:
    mind.say("My cat is called Miso.")

    async def story() -> None:
        runner = mind.runner()
        await runner.sleep("manual")
        await runner.pause()
        await eventually(lambda: runner.state()["stage"])
        await asyncio.sleep(0.2)
        assert runner.child is None
        await runner.go_on()
        await runner.wait()
        await runner.close()

    asyncio.run(story())
    assert mind.stages("p1") == [(name, "done") for name in NAMES]


def test_a_paused_child_that_is_killed_is_started_again_once_the_night_goes_on(mind: Mind) -> None:
    mind.toy(hang="train")
    mind.say("My cat is called Miso.")

    async def story() -> None:
        runner = mind.runner()
        await runner.sleep("manual")
        child = await asleep(runner)
        await runner.pause()
        os.killpg(child, signal.SIGKILL)
        await eventually(lambda: runner.child is None)
        mind.toy()
        await asyncio.sleep(0.2)
        assert runner.child is None and runner.running
        await runner.go_on()
        await runner.wait()
        await runner.close()

    asyncio.run(story())
    assert mind.stages("p1") == [(name, "done") for name in NAMES]


def test_stopping_works_while_paused_and_the_next_daemon_comes_back_paused(mind: Mind) -> None:
    mind.toy(hang="train")
    mind.say("My cat is called Miso.")

    async def stopped() -> int:
        runner = mind.runner()
        await runner.sleep("manual")
        child = await asleep(runner)
        await runner.pause()
        await runner.close()
        return child

    async def again() -> None:
        mind.toy()
        runner = mind.runner()
        assert await runner.resume() is not None
        await eventually(lambda: runner.state()["stage"] == "train")
        await asyncio.sleep(0.2)
        assert (runner.state()["paused"], runner.child) == ("owner", None)
        await runner.go_on()
        await runner.wait()
        await runner.close()

    assert not psutil.pid_exists(asyncio.run(stopped()))
    asyncio.run(again())
    assert mind.stages("p1") == [(name, "done") for name in NAMES]


def test_a_pause_is_no_work(mind: Mind) -> None:
    mind.say("My cat is called Miso.")
    night = asyncio.run(whole_night(mind))
    record = next(row for row in mind.journal.stages(night) if row.name == "train")
    middle = record.started_at + (record.finished_at - record.started_at) / 2
    pauses = [Pause(middle, record.finished_at + timedelta(hours=1), "owner")]
    write_orders(mind.night(night), Orders(pauses=pauses))
    bundle = read_bundle(mind.night(night))
    report = morning.build(bundle)
    worked = (middle - record.started_at).total_seconds()
    assert report["seconds_by_stage"]["train"] == pytest.approx(worked, abs=0.001)
    assert report["seconds"] == pytest.approx(sum(report["seconds_by_stage"].values()), abs=0.01)


def test_pauses_that_overlap_count_once() -> None:
    at = [NOON + timedelta(seconds=second) for second in range(100)]
    pauses = [Pause(at[10], at[20], "asked"), Pause(at[15], at[30], "owner"), Pause(at[90], None, "owner")]
    assert seconds_paused(pauses, at[0], at[99]) == 29
    assert seconds_paused(pauses, at[12], at[18]) == 6
    assert seconds_paused(pauses, at[40], at[80]) == 0


def test_orders_come_back_as_they_were_and_a_torn_file_is_none(tmp_path: Path) -> None:
    orders = Orders(True, False, [Pause(NOON, None, "owner")])
    write_orders(tmp_path, orders)
    assert read_orders(tmp_path) == orders
    (tmp_path / "orders.json").write_text('{"paused": tr', "utf-8")
    assert read_orders(tmp_path) == Orders()


# Light nights -----------------------------------------------------------------------------------------


def test_a_light_night_gives_way_to_who_asks_and_a_deep_one_does_not(mind: Mind) -> None:
    mind.toy(hang="train")
    mind.say("My cat is called Miso.")

    async def light() -> None:
        runner = mind.runner()
        await runner.sleep("manual", depth="light")
        child = await asleep(runner)
        with runner.asked():
            await eventually(lambda: stands_still(child))
            await asyncio.sleep(2 * QUIET)
            assert runner.state()["paused"] == "asked", "as long as the answer takes"
        assert runner.state()["paused"] == "asked"
        await eventually(lambda: not stands_still(child))
        assert runner.state()["paused"] is None
        with runner.asked():
            await runner.pause()
        await asyncio.sleep(2 * QUIET)
        assert stands_still(child), "its owner's word holds after the chat"
        mind.toy()
        await runner.go_on()
        await runner.wait()
        await runner.close()

    async def deep() -> None:
        mind.say("My dog is called Bruno.")
        runner = mind.runner()
        await runner.sleep("manual")
        with runner.asked():
            await runner.wait()
        await runner.close()

    asyncio.run(light())
    asyncio.run(deep())
    assert mind.stages("p1") == mind.stages("p2") == [(name, "done") for name in NAMES]
    assert [read_orders(mind.night(name)).pauses != [] for name in ("p1", "p2")] == [True, False]


def test_capacity_sleeps_lightly_and_all_others_deeply(mind: Mind) -> None:
    async def night(kind: str) -> str:
        runner = mind.runner()
        made = await runner.sleep(kind)  # type: ignore[arg-type]
        await runner.wait()
        await runner.close()
        assert mind.journal.night(made.id).depth == read_bundle(mind.night(made.id)).depth == made.depth
        return made.depth

    assert [asyncio.run(night(kind)) for kind in ("capacity", "clock", "manual")] == ["light", "deep", "deep"]
    mind.settings = Settings(sunset=SunsetSettings(capacity_depth="deep"))
    assert asyncio.run(night("capacity")) == "deep"


def test_a_light_night_has_fewer_cycles_and_rehearses_nothing(mind: Mind) -> None:
    for number in range(3):
        mind.say(f"Fact {number}.")
    asyncio.run(whole_night(mind))
    mind.say("News.")

    async def nap() -> None:
        runner = mind.runner()
        await runner.sleep("manual", depth="light")
        await runner.wait()
        await runner.close()

    asyncio.run(nap())
    bundle = read_bundle(mind.night("p4"))
    assert (bundle.cycles, read_bundle(mind.night("p3")).cycles) == (2, 4)
    assert [row["text"] for row in read_lines(bundle.done("gather") / "memories.jsonl")] == ["News."]
    assert mind.journal.stages("p4")[0].figures["due"] == 0
    assert generations.active(mind.home) == "gen-0002", "what is learned lightly has passed the same gates"
    mind.say("More.")
    night = asyncio.run(whole_night(mind))
    rows = read_lines(mind.night(night) / "gather" / "memories.jsonl")
    assert "More." in [row["text"] for row in rows if row["why"] == "today"]
    assert "News." not in [row["text"] for row in rows], "it is not new a second time"


def test_a_held_night_stays_as_deep_as_it_is(mind: Mind) -> None:
    mind.say("My cat is called Miso.")
    asyncio.run(whole_night(mind, "gather"))

    async def other() -> None:
        runner = mind.runner()
        with pytest.raises(Conflict, match="a deep one"):
            await runner.sleep("manual", depth="light")
        await runner.close()

    asyncio.run(other())


# Ended by hand ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("paused", [False, True])
def test_a_night_that_is_ended_halts_and_its_memories_wait(mind: Mind, paused: bool) -> None:
    mind.toy(hang="train")
    cat = mind.say("My cat is called Miso.")

    async def story() -> None:
        runner = mind.runner()
        await runner.sleep("manual")
        child = await asleep(runner)
        if paused:
            await runner.pause()
        assert await runner.wake() == "p1"
        await runner.wait()
        assert not psutil.pid_exists(child)
        with pytest.raises(Conflict, match="no night"):
            await runner.wake()
        await runner.close()

    asyncio.run(story())
    assert mind.stages("p1")[-2:] == [("train", "halt"), ("report", "done")]
    assert "`ada wake`" in mind.report("p1")["halted"]["reason"]
    assert generations.active(mind.home) == "gen-0000"
    assert [memory.id for memory in mind.journal.waiting()] == [cat]
    mind.toy()
    asyncio.run(whole_night(mind))
    assert mind.journal.settlements()[cat].outcome == "learned"


def test_a_held_night_can_be_ended_and_an_order_outlives_its_daemon(mind: Mind) -> None:
    mind.say("My cat is called Miso.")
    asyncio.run(whole_night(mind, "verdict"))

    async def wake(orders: Orders | None) -> None:
        runner = mind.runner()
        if orders is None:
            await runner.wake()
        else:
            write_orders(mind.night("p1-2"), orders)
            await runner.resume()
        await runner.wait()
        await runner.close()

    asyncio.run(wake(None))
    assert mind.stages("p1")[-2:] == [("activate", "halt"), ("report", "done")]
    asyncio.run(whole_night(mind, "dataset"))
    asyncio.run(wake(Orders(woken=True)))
    assert mind.stages("p1-2")[-2:] == [("train", "halt"), ("report", "done")]
    assert generations.active(mind.home) == "gen-0000"


# Learned once -----------------------------------------------------------------------------------------


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.nights import Mind
def die(): os.kill(os.getpid(), signal.SIGKILL)
class Events(list):
    def append(self, event):
        words = (event["event"], str(event.get("stage")), str(event.get("state")))
        if " ".join(words) == sys.argv[2]:
            die()
async def main():
    mind = Mind(Path(sys.argv[1]))
    mind.events = Events()
    mind.say("My cat is called Miso.")
    if sys.argv[2] == "swap":
        async def swap(serving): die()
        mind.voice.swap = swap
    runner = mind.runner()
    await runner.sleep("manual")
    await runner.wait()
asyncio.run(main())
"""


@pytest.mark.parametrize(
    "moment", ["swap", "active None None", "stage activate finished", "stage report started"]
)
def test_what_a_killed_night_has_taught_is_taught_once(tmp_path: Path, moment: str) -> None:
    """Killed before the pointer moves, after the memories are settled, before and in the report."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), moment], cwd=CHECKOUT, check=False)
    assert done.returncode == -signal.SIGKILL
    mind = Mind(tmp_path)
    try:
        async def again() -> None:
            runner = mind.runner()
            assert await runner.resume() is not None
            await runner.wait()
            await runner.close()

        asyncio.run(again())
        assert mind.stages("p1") == [(name, "done") for name in NAMES]
        night = asyncio.run(whole_night(mind))
        assert mind.report(night)["skipped"]["reason"] == "nothing waits to be learned"
        assert [generation.id for generation in mind.journal.generations()] == ["gen-0001"]
        taught = Counter(mind.journal.generation_dreams("gen-0001"))
        assert len(taught) == 2 and set(taught.values()) == {1}
        assert [row.generation for row in mind.journal.activations()] == ["gen-0001"]
    finally:
        mind.journal.close()


def test_a_memory_is_learned_again_only_by_a_line_that_does_not_know_it(mind: Mind) -> None:
    mind.say("My cat is called Miso.")
    asyncio.run(whole_night(mind))
    args = (mind.home, mind.journal, mind.base, mind.voice.swap, lambda: datetime.now(UTC))
    asyncio.run(succession.rollback(*args))
    night = asyncio.run(whole_night(mind))
    assert mind.stages(night)[-1] == ("report", "done") and generations.active(mind.home) == "gen-0002"
    assert mind.report(asyncio.run(whole_night(mind)))["skipped"], "once is enough"
