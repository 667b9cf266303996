"""A night as the daemon runs it: a real child, real files, a real journal; killed wherever one can be."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from ada_memory.circadian.bundle import read_bundle
from ada_memory.circadian.stages import NAMES, STAGES
from ada_memory.circadian.walk import STARTS
from ada_memory.errors import BadInput, Conflict, Unavailable
from ada_memory.records import NightKind, StageName
from ada_memory.settings import CHECKOUT, Settings
from ada_memory.sovereign import generations, succession
from ada_memory.sovereign.disk import append_line
from tests.nights import HEAVY, TOYS, Mind, whole_night


@pytest.fixture
def mind(tmp_path: Path) -> Iterator[Mind]:
    made = Mind(tmp_path)
    yield made
    made.journal.close()


async def eventually(true: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for something that must come about."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not true():
        assert asyncio.get_running_loop().time() < deadline, "it did not come about"
        await asyncio.sleep(0.01)


def test_a_whole_night(mind: Mind) -> None:
    cat, dog = mind.say("My cat is called Miso."), mind.say("My dog is called Bruno.")
    night = asyncio.run(whole_night(mind))
    assert night == "p2"
    assert mind.stages(night) == [(name, "done") for name in NAMES]
    assert generations.active(mind.home) == "gen-0001"
    assert [serving.generation for serving in mind.voice.spoke] == ["gen-0001"]
    assert mind.voice.spoke[0].model == mind.home.merged / "gen-0001"
    assert {memory: row.outcome for memory, row in mind.journal.settlements().items()} == {
        cat: "learned", dog: "learned",
    }
    assert mind.journal.waiting() == []
    assert [dream.memories for dream in mind.journal.dreams(night)] == [(cat,), (cat,), (dog,), (dog,)]
    assert len(mind.journal.generation_dreams("gen-0001")) == 4
    assert mind.journal.activations(1)[0].generation == "gen-0001"
    assert mind.journal.generation("gen-0001").night == night
    assert not (mind.night(night) / "merge" / "model").exists()
    assert sorted(path.name for path in mind.night(night).iterdir() if path.is_dir()) == sorted(NAMES)


def test_events_tell_the_story_in_order(mind: Mind) -> None:
    mind.say("My cat is called Miso.")
    asyncio.run(whole_night(mind))
    heard = [event for event in mind.events if event["event"] in ("night", "stage")]
    told = [(event["event"], event.get("stage"), event.get("state")) for event in heard]
    stages = [("stage", name, state) for name in NAMES for state in ("started", "finished")]
    assert told == [("night", None, "opened"), ("night", None, "asleep"), *stages, ("night", None, "done")]
    assert {"event": "active", "generation": "gen-0001"} in mind.events
    log = (mind.night("p1") / "sleeper.log").read_text("utf-8")
    assert "what libraries print" in log


def test_the_child_runs_at_the_lowest_priority_in_its_own_group(mind: Mind) -> None:
    mind.toy(hang="train")
    mind.say("My cat is called Miso.")

    async def story() -> None:
        runner = mind.runner()
        await runner.sleep("manual")
        await eventually(lambda: runner.state()["stage"] == "train" and runner.state()["progress"])
        pid = runner.child
        assert pid is not None and os.getpgid(pid) == pid != os.getpgid(0)
        assert os.getpriority(os.PRIO_PROCESS, pid) == 19
        assert psutil.Process(pid).ionice().ioclass == psutil.IOPRIO_CLASS_IDLE
        state = runner.state()
        assert {name: state[name] for name in state if "seconds" not in name} == {
            "state": "asleep", "night": "p1", "depth": "deep", "stage": "train",
            "progress": {"done": 1, "total": 2, "note": ""}, "held": None, "paused": None,
            "paused_since": None, "trouble": None,
        }
        with pytest.raises(Conflict):
            await runner.sleep("manual")
        await runner.close()
        assert not _lives(pid)
        with pytest.raises(Unavailable):
            await runner.sleep("manual")

    asyncio.run(story())


@pytest.mark.parametrize("priority", ["low", "normal"])
def test_a_night_gives_way_as_it_is_told(mind: Mind, priority: str) -> None:
    mind.say("My cat is called Miso.")
    mind.toy(hang="train")
    mind.settings = Settings.model_validate({"sunset": {"priority": priority}})

    async def story() -> None:
        runner = mind.runner()
        await runner.sleep("manual")
        await eventually(lambda: runner.state()["stage"] == "train" and runner.state()["progress"])
        ours = os.getpriority(os.PRIO_PROCESS, 0)
        assert os.getpriority(os.PRIO_PROCESS, runner.child or 0) == (19 if priority == "low" else ours)
        if hasattr(os, "SCHED_IDLE"):
            assert os.sched_getscheduler(runner.child or 0) != os.SCHED_IDLE
        await runner.close()

    asyncio.run(story())


@pytest.mark.parametrize("stage", HEAVY)
def test_a_child_that_is_killed_is_started_again(mind: Mind, stage: StageName) -> None:
    mind.toy(kill=[stage])
    mind.say("My cat is called Miso.")
    night = asyncio.run(whole_night(mind))
    assert mind.stages(night) == [(name, "done") for name in NAMES]
    assert list((mind.night(night) / stage).glob("half*")) == []
    assert generations.active(mind.home) == "gen-0001"


def test_a_child_that_is_killed_runs_fewer_tokens_at_a_time_when_it_is_started_again(mind: Mind) -> None:
    mind.toy(kill=["train", "train"])
    mind.say("My cat is called Miso.")
    night = asyncio.run(whole_night(mind))
    assert json.loads((mind.night(night) / "train" / "toy.json").read_text("utf-8")) == {"died": 2}
    assert read_bundle(mind.night(night)).died == 0


def test_a_child_that_always_dies_halts_the_night(mind: Mind) -> None:
    mind.toy(kill=["train"] * 9)
    mind.say("My cat is called Miso.")
    night = asyncio.run(whole_night(mind))
    assert mind.stages(night)[-2:] == [("train", "halt"), ("report", "done")]
    assert "died 3 times in train (status -9)" in mind.report(night)["halted"]["reason"]
    assert generations.active(mind.home) == "gen-0000"


def test_a_stage_that_takes_every_daemon_down_with_it_is_given_up(mind: Mind) -> None:
    mind.say("My cat is called Miso.")
    asyncio.run(whole_night(mind, "dataset"))
    for _ in range(STARTS):  # as many daemons as that began to train, and left no more than this
        append_line(mind.night("p1") / "starts.log", "train")
    asyncio.run(whole_night(mind))
    assert mind.stages("p1")[-2:] == [("train", "halt"), ("report", "done")]
    assert "never came to its end" in mind.report("p1")["halted"]["reason"]
    assert generations.active(mind.home) == "gen-0000"


def test_a_night_that_cannot_write_says_so_and_goes_on_once_it_can(mind: Mind) -> None:
    mind.say("My cat is called Miso.")
    asyncio.run(whole_night(mind, "verdict"))
    obstacle = mind.night("p1") / ".tmp-activate"
    obstacle.write_text("a file where the stage's folder should be", "utf-8")

    async def story() -> None:
        runner = mind.runner()
        await runner.sleep("manual")
        await eventually(lambda: runner.state()["trouble"])
        assert runner.running
        obstacle.unlink()
        await runner.wait()
        await runner.close()

    asyncio.run(story())
    assert mind.stages("p1") == [(name, "done") for name in NAMES]
    assert {"event": "night", "state": "stopped"}.items() <= next(
        event for event in mind.events if event.get("state") == "stopped"
    ).items()


@pytest.mark.parametrize("stage", HEAVY)
def test_a_daemon_that_is_stopped_goes_on_where_it_was(mind: Mind, stage: StageName) -> None:
    mind.toy(hang=stage)
    mind.say("My cat is called Miso.")

    async def until_stopped() -> None:
        runner = mind.runner()
        await runner.sleep("manual")
        await eventually(lambda: runner.state()["stage"] == stage and runner.state()["progress"])
        await runner.close()

    async def again() -> None:
        runner = mind.runner()
        night = await runner.resume()
        assert night is not None and night.id == "p1"
        await runner.wait()
        await runner.close()

    asyncio.run(until_stopped())
    before = [name for name, _ in mind.stages("p1")]
    assert before == list(NAMES[: NAMES.index(stage)])
    mind.toy()
    asyncio.run(again())
    assert mind.stages("p1") == [(name, "done") for name in NAMES]
    started = [event["stage"] for event in mind.events if event.get("state") == "started"]
    place = NAMES.index(stage)
    assert started == [*NAMES[: place + 1], *NAMES[place:]], "what was finished did not run again"


DAEMON = """
import asyncio, sys
from pathlib import Path
from tests.nights import Mind
async def main():
    mind = Mind(Path(sys.argv[1]))
    mind.say("My cat is called Miso.")
    runner = mind.runner()
    await runner.sleep("manual")
    while not (runner.child and runner.state()["progress"] and runner.state()["stage"] == sys.argv[2]):
        await asyncio.sleep(0.01)
    print(runner.child, flush=True)
    await runner.wait()
asyncio.run(main())
"""


def test_a_daemon_that_is_killed_takes_the_child_along_and_goes_on_later(tmp_path: Path) -> None:
    package = Mind(tmp_path)
    package.toy(hang="merge")
    package.journal.close()
    command = [sys.executable, "-c", DAEMON, str(tmp_path), "merge"]
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        child = int(daemon.stdout.readline())
        daemon.send_signal(signal.SIGKILL)
        daemon.wait()

    async def story(mind: Mind) -> None:
        await eventually(lambda: not _lives(child))
        mind.toy()
        runner = mind.runner()
        assert await runner.resume() is not None
        await runner.wait()
        await runner.close()

    mind = Mind(tmp_path)
    try:
        asyncio.run(story(mind))
        assert mind.stages("p1") == [(name, "done") for name in NAMES]
    finally:
        mind.journal.close()


def test_a_finished_folder_without_its_row_gets_one(mind: Mind) -> None:
    mind.toy(hang="dataset")
    mind.say("My cat is called Miso.")

    async def child_alone() -> None:
        runner = mind.runner()
        await runner.sleep("manual", "gather")
        await runner.wait()
        await runner.close()
        command = [sys.executable, "-m", "ada_memory.circadian.sleeper", str(mind.night("p1")),
                   "--until", "verify", "--stages", TOYS]
        done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert all(json.loads(line)["event"] for line in done.stdout.splitlines())

    asyncio.run(child_alone())
    assert mind.stages("p1") == [("gather", "done")]
    mind.toy()
    asyncio.run(whole_night(mind))
    assert mind.stages("p1") == [(name, "done") for name in NAMES]
    assert len(mind.journal.dreams("p1")) == 2


def test_a_night_is_held_where_it_was_asked_to_stop(mind: Mind) -> None:
    mind.say("My cat is called Miso.")
    assert asyncio.run(whole_night(mind, "verify")) == "p1"
    assert [name for name, _ in mind.stages("p1")] == ["gather", "dream", "verify"]
    mind.say("My dog is called Bruno.")

    async def restarted() -> None:
        runner = mind.runner()
        assert await runner.resume() is None, "a held night waits for its owner"
        assert (runner.state()["state"], runner.state()["held"]) == ("awake", "verify")
        with pytest.raises(Conflict):
            await runner.sleep("capacity")
        await runner.close()

    asyncio.run(restarted())
    assert asyncio.run(whole_night(mind, "verdict")) == "p1"
    assert mind.stages("p1")[-1] == ("verdict", "done")
    assert generations.active(mind.home) == "gen-0000"
    assert not (mind.home.mind / "active").exists()
    assert asyncio.run(whole_night(mind)) == "p1"
    assert generations.active(mind.home) == "gen-0001"
    assert [memory.text for memory in mind.journal.waiting()] == ["My dog is called Bruno."]


def test_a_rejected_model_leaves_the_pointer_as_it_was_to_the_byte(mind: Mind) -> None:
    mind.say("My cat is called Miso.")
    asyncio.run(whole_night(mind))
    pointer = (mind.home.mind / "active").read_bytes()
    dog = mind.say("My dog is called Bruno.")
    mind.toy(verdict="reject")
    night = asyncio.run(whole_night(mind))
    assert mind.stages(night)[-2:] == [("verdict", "halt"), ("report", "done")]
    assert (mind.home.mind / "active").read_bytes() == pointer
    assert [serving.generation for serving in mind.voice.spoke] == ["gen-0001"]
    assert [memory.id for memory in mind.journal.waiting()] == [dog]
    assert mind.report(night)["verdict"] == "reject"
    page = (mind.night(night) / "report" / "report.md").read_text("utf-8")
    assert "The new model was rejected" in page and "gen-0001 keeps serving" in page


def test_a_reduced_verdict_serves_the_weaker_adapter(mind: Mind) -> None:
    mind.say("My cat is called Miso.")
    mind.toy(verdict="reduced")
    asyncio.run(whole_night(mind))
    adapter = generations.adapter_folder(mind.home, "gen-0001")
    assert adapter is not None and (adapter / "adapter_model.safetensors").read_bytes() == b"weaker"
    assert mind.voice.spoke[0] == generations.Serving("gen-0001", mind.base.path, adapter)


@pytest.mark.parametrize("stage", HEAVY)
def test_a_stage_that_raises_halts_the_night_with_its_words(mind: Mind, stage: StageName) -> None:
    mind.toy(**{"raise": stage})
    mind.say("My cat is called Miso.")
    night = asyncio.run(whole_night(mind))
    assert mind.stages(night)[-2:] == [(stage, "halt"), ("report", "done")]
    assert mind.report(night)["halted"] == {"stage": stage, "reason": "ValueError: the toy is broken"}
    assert "Traceback" in (mind.night(night) / "sleeper.log").read_text("utf-8")
    assert generations.active(mind.home) == "gen-0000"
    assert mind.journal.settlements() == {}


def test_a_voice_that_fails_its_probe_does_not_serve(mind: Mind) -> None:
    cat = mind.say("My cat is called Miso.")
    mind.voice.refuses = {"gen-0001"}
    night = asyncio.run(whole_night(mind))
    assert mind.stages(night)[-2:] == [("activate", "halt"), ("report", "done")]
    assert generations.active(mind.home) == "gen-0000"
    assert [memory.id for memory in mind.journal.waiting()] == [cat]
    mind.voice.refuses = set()
    asyncio.run(whole_night(mind))
    assert generations.active(mind.home) == "gen-0002"


def test_an_empty_day_is_a_short_night_with_a_report(mind: Mind) -> None:
    night = asyncio.run(whole_night(mind))
    assert mind.stages(night) == [("gather", "skip"), ("report", "done")]
    assert mind.report(night)["skipped"] == {"stage": "gather", "reason": "nothing waits to be learned"}
    assert asyncio.run(whole_night(mind)) == "p0-2", "by hand one may sleep again"


def test_one_clock_night_for_each_local_date(mind: Mind) -> None:
    async def story() -> None:
        runner = mind.runner()
        night = await runner.sleep("clock")
        await runner.wait()
        assert night.id == "2026-03-01"
        with pytest.raises(Conflict):
            await runner.sleep("clock")
        mind.now += timedelta(days=1)
        assert (await runner.sleep("clock")).id == "2026-03-02"
        await runner.wait()
        await runner.close()

    asyncio.run(story())


@pytest.mark.parametrize("kind", ["manual", "capacity"])
def test_two_that_ask_at_once_get_one_night(mind: Mind, kind: NightKind) -> None:
    mind.say("My cat is called Miso.")

    async def story() -> list[object]:
        runner = mind.runner()
        asked: list[object] = list(
            await asyncio.gather(*(runner.sleep(kind) for _ in range(3)), return_exceptions=True)
        )
        await runner.wait()
        await runner.close()
        return asked

    asked = asyncio.run(story())
    assert sum(isinstance(answer, Conflict) for answer in asked) == 2
    assert len(mind.journal.nights()) == 1


def test_a_stage_that_does_not_exist_is_refused(mind: Mind) -> None:
    async def story() -> None:
        with pytest.raises(BadInput):
            await mind.runner().sleep("manual", "nap")  # type: ignore[arg-type]

    asyncio.run(story())
    assert mind.journal.nights() == []


def test_a_rollback_during_the_night_is_not_undone_by_it(mind: Mind) -> None:
    mind.say("My cat is called Miso.")
    asyncio.run(whole_night(mind))
    mind.say("My dog is called Bruno.")
    asyncio.run(whole_night(mind, "verdict"))
    args = (mind.home, mind.journal, mind.base, mind.voice.swap, lambda: mind.now)
    asyncio.run(succession.rollback(*args))
    night = asyncio.run(whole_night(mind))
    assert mind.stages(night)[-2:] == [("activate", "halt"), ("report", "done")]
    assert generations.active(mind.home) == "gen-0000"
    assert not (mind.home.generations / "gen-0002").exists()


def test_each_night_goes_on_from_its_parent(mind: Mind) -> None:
    for text in ("My cat is called Miso.", "My dog is called Bruno.", "I live in Lisbon."):
        mind.say(text)
        asyncio.run(whole_night(mind))
    bundle = read_bundle(mind.night("p3"))
    assert (bundle.parent, bundle.generation) == ("gen-0002", "gen-0003")
    assert bundle.adapter_name == "nightly_adapter_v3"
    assert bundle.adapter == mind.home.generations / "gen-0002" / "adapter"
    assert bundle.voice().adapter is None, "the parent is served from its merged weights"
    assert [folder.name for folder in mind.home.merged.iterdir()] == ["gen-0003"]
    assert len(mind.home.experiments.read_text("utf-8").splitlines()) == 3


def test_the_table_is_the_design() -> None:
    assert [stage.name for stage in STAGES if not stage.heavy] == ["gather", "activate", "report"]


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie whose parent was killed may wait for init; it no longer runs.
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text("utf-8").rpartition(")")[2].split()[0] == "Z")
