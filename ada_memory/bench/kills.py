"""`ada bench kills`: a daemon under a stream of posts is killed over and over; what was promised is checked.

SIGKILL hits the daemon, the embed worker, the voice and the sleeper: in every stage of the night, and at any
moment. Afterwards the last night is let end, the daemon is stopped, and its files are read.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil

from ada_memory.bench import audit, tiny
from ada_memory.bench.crowd import App, Asker, Bedtime, Owner, Poster, unasked
from ada_memory.bench.house import launch, stop, wait_awake
from ada_memory.bench.night import say
from ada_memory.circadian.stages import NAMES, STAGES
from ada_memory.client import Client
from ada_memory.errors import AdaError, Unavailable
from ada_memory.settings import Home
from ada_memory.sovereign import generations

Target = Literal["daemon", "embed", "voice", "sleeper"]
PROGRAM = ("-m", "ada_memory.bench.drill_stages")
MARKS: Mapping[Target, str] = {
    "embed": "hippocampus.embed_worker", "voice": "service.voice", "sleeper": "circadian.sleeper",
}  # fmt: skip
SETTINGS: Mapping[str, object] = {
    "sunset.at": "", "sunset.capacity": 0, "model.dtype": "float32", "model.device": "cpu",
    "model.threads": 1, "forge.rank": 4, "forge.alpha": 8, "forge.epochs": 1, "forge.steps": 0,
    "forge.mends": 0, "forge.anchors": 0, "forge.drift_weight": 0, "forge.learning_rate": 0.003,
    "topology.exam_drop": 1, "topology.category_drop": 1, "topology.safety_drop": 1,
    "topology.kl": 1e9, "topology.norm_growth": 1e9, "topology.repetition": 1,
    "topology.recall": 0, "topology.known_drop": 1, "sunset.quiet_seconds": 0.2, "sunset.priority": "normal",
}  # fmt: skip
"""A gate that is wide open: the tiny model learns nothing, and rejections are the drill's own.
Whoever kills and asks here must not starve the night."""

MUST_BE_ZERO = (
    "lost", "duplicated", "served_bad", "nights_unfinished", "unencoded", "memories_missing",
    "memories_twice", "vectors_missing", "index_missing", "gaps", "leftovers", "orphans", "errors",
)  # fmt: skip

PATIENCE_SECONDS = 40.0
"""Without an occasion for so long, the daemon is killed wherever it is."""
TAKES_SECONDS: Mapping[str, float] = {
    "gather": 0.05,
    "train": 3.0,
    "map": 1.0,
    "activate": 4.0,
    "report": 0.02,
}
"""About how long stages take; a kill falls somewhere in it."""
REST_SECONDS = 600.0


@dataclass
class Plan:
    """How many kills of which target in which stage ("" for any moment) are still to come."""

    left: Counter[tuple[Target, str]]
    done: Counter[tuple[Target, str]] = field(default_factory=Counter)
    deaths: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Of the sleeper, by night and stage: a third in one stage would halt the night."""

    @classmethod
    def of(cls, kills: int) -> Plan:
        """Shared out evenly; what does not divide goes to the daemon at any moment."""
        cells: list[tuple[Target, str]] = [("daemon", ""), ("embed", ""), ("voice", "")]
        cells += [("daemon", stage.name) for stage in STAGES]
        cells += [("sleeper", stage.name) for stage in STAGES if stage.heavy]
        left = Counter({cell: kills // len(cells) for cell in cells})
        left[cells[0]] += kills - left.total()
        return cls(left)

    def target(self, night: str, stage: str, rng: random.Random) -> Target | None:
        """Whom to kill in this stage; None if its share is used up, or has to wait for another night."""
        targets: list[Target] = [
            target
            for (target, name), left in self.left.items()
            if name == stage and left and not (target == "sleeper" and self.deaths[night, stage] >= 2)
        ]
        return rng.choice(targets) if targets else None

    def count(self, target: Target, planned: str, night: str, happened: str) -> None:
        """One kill less to come; where it happened is what is reported."""
        self.left[target, planned] -= 1
        self.done[target, happened] += 1
        self.deaths[night, happened] += target == "sleeper"


class Mortal:
    """A daemon that is started again whenever it is killed."""

    def __init__(self, home: Home, socket: Path, settings: Mapping[str, object]) -> None:
        self.home, self.socket, self._settings = home, socket, settings
        self.broken: list[str] = []
        """What was wrong with the generation that the pointer named at a restart."""
        self.lives: list[int] = []
        """The pid of each of its lives."""
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        process = launch(self.home, self.socket, self._settings, PROGRAM)
        self.lives.append(process.pid)
        return process

    def kill(self, target: Target) -> bool:
        """SIGKILL; False if there is no such process just now."""
        if target == "daemon":
            self._process.kill()
            self._process.wait()
            self._look()
            self._process = self._start()
            return True
        pid = child_of(self._process.pid, MARKS[target])
        if pid is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return True

    def wait_awake(self) -> None:
        """Until it answers again."""
        with Client(self.socket) as ada:
            wait_awake(ada, self._process, self.home)

    def stop(self) -> None:
        """A gentle end."""
        stop(self._process)

    def _look(self) -> None:
        """What the dead daemon has left: a pointer to a generation that is whole?"""
        try:
            generations.read(self.home, generations.active(self.home))
        except AdaError as error:
            self.broken.append(error.message)


def run(
    kills: int,
    seed: int,
    home: Path | None = None,
    rate: float = 4.0,
    settings: Mapping[str, str] | None = None,
) -> dict[str, object]:
    """Kill so many times; returns the figures. `rate` is how many posts a second go on all the while."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ada-") as scratch:
        place = Home((home or Path(scratch) / "home").resolve())
        model = tiny.make(Path(scratch) / "tiny", seed)
        socket = Path(scratch) / "ada.sock"
        mortal = Mortal(place, socket, {**SETTINGS, "model.name": model, **(settings or {})})
        plan = Plan.of(kills)
        try:
            mortal.wait_awake()
            posters = [Poster(socket, 2 / rate, seed * 10 + n, f"app{n}") for n in range(2)]
            asker, bedtime = Asker(socket, 0.5, seed), Bedtime(socket, 0.5, seed)
            owner = Owner(socket, 0.7, seed)
            with _at_work([*posters, asker]), _at_work([bedtime, owner]):
                _kill(mortal, plan, kills, random.Random(seed))
                mortal.wait_awake()
            _rest(socket, posters)
        finally:
            mortal.stop()
        promised = [promise for poster in posters for promise in poster.promises]
        found = audit.read(place, promised, asker.heard)
        found["served_bad"] = int(str(found["served_bad"])) + len(mortal.broken)
        apps: list[App] = [*posters, asker, bedtime, owner]
        return {
            "kills": plan.done.total(), "seed": seed, **found,
            "errors": sum(unasked(app.refused) for app in apps),
            "refused": dict(sum((app.refused for app in apps), Counter[str]()).most_common(8)),
            "rolled_back": bedtime.rolled_back, "paused": owner.paused, "ended": owner.ended,
            "orphans": len(_orphans(mortal)),
            "kills_by": {_where(*cell): count for cell, count in sorted(plan.done.items())},
            "seconds": round(time.monotonic() - began, 1),
        }  # fmt: skip


@contextlib.contextmanager
def _at_work(apps: list[App]) -> Iterator[None]:
    for app in apps:
        app.start()
    try:
        yield
    finally:
        for app in apps:
            app.end()
        for app in apps:
            app.join()


def _kill(mortal: Mortal, plan: Plan, kills: int, rng: random.Random) -> None:
    """Watch the night's folders and strike: in the stage that runs, or after a while at any moment."""
    idle_since = time.monotonic()
    strike_at = idle_since + rng.expovariate(1 / 6)
    while plan.done.total() < kills:
        time.sleep(0.002)
        now, (night, stage) = time.monotonic(), running(mortal.home)
        target = plan.target(night, stage, rng) if stage else None
        planned = stage
        if target is not None:
            time.sleep(rng.uniform(0, TAKES_SECONDS.get(stage, 0.3)))
        elif now >= strike_at and (target := plan.target("", "", rng)) is not None:
            planned, strike_at = "", now + rng.expovariate(1 / 6)
        elif now - idle_since > PATIENCE_SECONDS:
            target, planned = max(plan.left, key=lambda cell: plan.left[cell])
        else:
            continue
        night, happened = running(mortal.home)
        if not mortal.kill(target):
            continue
        plan.count(target, planned, night, happened)
        say(f"kill {plan.done.total():4d}/{kills}: {_where(target, happened)}")
        if target == "daemon":
            _restart(mortal, plan, rng)
        idle_since = time.monotonic()


def _restart(mortal: Mortal, plan: Plan, rng: random.Random) -> None:
    """Wait until it is awake; now and then kill it while it wakes."""
    if plan.left["daemon", ""] and rng.random() < 0.2:
        time.sleep(rng.uniform(0, 2))
        mortal.kill("daemon")
        plan.count("daemon", "", "", "waking")
    mortal.wait_awake()


def _where(target: Target, stage: str) -> str:
    return f"{target} in {stage}" if stage else target


def running(home: Home) -> tuple[str, str]:
    """The night that is in a stage just now, and the stage, by its unfinished folder; "" if there is none."""
    for folder in home.nights.glob("*/.tmp-*"):
        name = folder.name.removeprefix(".tmp-")
        if name in NAMES:
            return folder.parent.name, name
    return "", ""


def child_of(parent: int, mark: str) -> int | None:
    """A child of that process with `mark` in its command line."""
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(parent).children():
            if mark in " ".join(child.cmdline()):
                return int(child.pid)
    return None


def _orphans(mortal: Mortal) -> list[int]:
    """Children that outlived the daemon which started them."""
    lives = {str(pid) for pid in mortal.lives}
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        words = process.info["cmdline"] or []
        child = any(mark in " ".join(words) for mark in MARKS.values())
        if child and "--parent" in words and words[words.index("--parent") + 1] in lives:
            found.append(int(process.info["pid"]))
    return found


def _rest(socket: Path, posters: list[Poster]) -> None:
    """Send again what was not acknowledged, then wait until the night is over and all is encoded.

    Raises:
        Unavailable: it does not come to rest.
    """
    with Client(socket) as ada:
        for poster in posters:
            poster.settle(ada)
        deadline = time.monotonic() + REST_SECONDS
        while time.monotonic() < deadline:
            status = ada.status()
            if status["paused"] == "owner":
                ada.resume()
            if status["state"] == "awake" and not status["counts"]["unencoded"]:
                return
            time.sleep(0.2)
    raise Unavailable("the daemon did not come to rest after the last kill", hint="daemon.log says more")
