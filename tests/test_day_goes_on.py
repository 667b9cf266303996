"""The third promise: interactions are taken and answered all through the night, activation and rollback."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ada_memory.bench import audit, tiny
from ada_memory.bench.crowd import App, Asker, Poster
from ada_memory.bench.house import launch, stop, wait_awake
from ada_memory.bench.kills import PROGRAM, SETTINGS
from ada_memory.client import Client
from ada_memory.settings import Home
from tests.daemons import short_folder

NIGHTS = 12


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as short:
        yield short


@pytest.mark.slow
def test_not_one_request_fails_while_generations_come_and_go(folder: Path) -> None:
    home, socket = Home(folder / "home"), folder / "s"
    process = launch(home, socket, {**SETTINGS, "model.name": tiny.make(folder / "tiny")}, PROGRAM)
    posters = [Poster(socket, 0.1, seed, f"app{seed}") for seed in range(2)]
    askers = [Asker(socket, 0.1, seed) for seed in range(2)]
    apps: list[App] = [*posters, *askers]
    try:
        with Client(socket) as ada:
            wait_awake(ada, process, home)
            ada.chat("Hello.")  # both workers are there: what follows is the day's own business
            ada.memories("hello")
            for app in apps:
                app.start()
            served = _until_rolled_back(ada)
            for app in apps:
                app.end()
            for app in apps:
                app.join()
            while ada.status()["counts"]["unencoded"]:
                time.sleep(0.1)
    finally:
        stop(process)
    assert [dict(app.refused) for app in apps] == [{}] * len(apps)
    found = audit.read(home, [promise for poster in posters for promise in poster.promises], askers[0].heard)
    assert [found[name] for name in ("lost", "duplicated", "served_bad", "nights_unfinished")] == [0, 0, 0, 0]
    heard = {name for asker in askers for name in asker.heard.replies}
    assert served <= heard
    assert "Traceback" not in (home.root / "daemon.log").read_text("utf-8")


def _until_rolled_back(ada: Client) -> set[str]:
    """Nights until one is activated, then a rollback; returns the generations that served."""
    served = {"gen-0000"}
    for _ in range(NIGHTS):
        night = ada.sleep()["night"]
        while not ada.night(night)["report"] or ada.status()["state"] != "awake":
            time.sleep(0.2)
        generation = ada.status()["generation"]
        served.add(generation)
        if generation != "gen-0000":
            ada.rollback()
            assert ada.status()["generation"] == "gen-0000"
            ada.rollback(generation)
            return served
    raise AssertionError("no night was activated")
