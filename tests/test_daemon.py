"""The process: who may start, how it ends, and that nothing acknowledged is lost when it is killed."""

from __future__ import annotations

import os
import signal
import socket as sockets
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ada_memory.client import Client
from ada_memory.errors import AdaError, BadSetting, Conflict
from ada_memory.hippocampus.journal import Journal
from ada_memory.service.wire import LONGEST_PATH, Door, check
from ada_memory.settings import CHECKOUT, Home
from tests.daemons import Running, command, environment, run_to_end, running, short_folder, wait_until_awake
from tests.models import tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"model.name={tiny_model(tmp_path_factory.mktemp('model'))}"


@pytest.fixture
def short() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder


def test_a_term_signal_ends_it_well_even_while_somebody_watches(short: Path, model: str) -> None:
    with running(short / "home", short / "s", model) as daemon:
        with daemon.client() as ada:
            kept = ada.post("My dog is called Bruno.")
        heard: list[dict[str, object]] = []
        watcher = threading.Thread(target=lambda: heard.extend(daemon.client().events()))
        watcher.start()
        with daemon.client() as ada:
            while not heard:  # until the watcher is there
                ada.post("What a lovely morning.")
                time.sleep(0.05)
        assert daemon.stop(signal.SIGTERM) == 0
        watcher.join(30)
        assert not watcher.is_alive()
        assert not daemon.socket.exists()
        assert f"ada is awake on {daemon.socket} as gen-0000" in daemon.said()
        assert "ada has stopped" in daemon.said()
        assert "Traceback" not in daemon.said()
        assert "Bruno" not in daemon.said()
    with Journal.open(Home(short / "home").journal) as journal:
        assert journal.interaction(kept["id"]).position == 1


def test_kill_9_loses_nothing_that_was_acknowledged(short: Path, model: str) -> None:
    acknowledged: list[str] = []

    def post(daemon: Running, worker: int) -> None:
        with daemon.client() as ada:
            try:
                for number in range(100_000):
                    kept = ada.post(f"Fact {number} of {worker}.", key=f"{worker}-{number}")
                    acknowledged.append(kept["id"])
            except AdaError:
                return

    with running(short / "home", short / "s", model) as daemon:
        posters = [threading.Thread(target=post, args=(daemon, worker)) for worker in range(4)]
        for poster in posters:
            poster.start()
        while len(acknowledged) < 200:
            assert daemon.process.poll() is None, daemon.said()
            time.sleep(0.01)
        daemon.process.kill()
        daemon.process.wait()
        for poster in posters:
            poster.join()
    assert daemon.socket.exists(), "a killed daemon cannot tidy up"
    with Journal.open(Home(short / "home").journal) as journal:
        kept = journal.interactions(limit=1_000_000)
    assert {interaction.id for interaction in kept} >= set(acknowledged)
    assert [interaction.position for interaction in kept] == list(range(1, len(kept) + 1))

    with running(short / "home", short / "s", model) as daemon, daemon.client() as ada:  # on the stale socket
        assert ada.status()["counts"]["interactions"] == len(kept)
        assert ada.post("Fact 0 of 0.", key="0-0")["duplicate"] is True


def test_the_socket_is_its_owners_alone(short: Path, model: str) -> None:
    before = os.umask(0)  # the loosest that a caller may have
    try:
        with running(short / "home", short / "s", model) as daemon:
            assert stat.S_IMODE(daemon.socket.stat().st_mode) == 0o600
            journal = Home(daemon.home).journal
            assert stat.S_IMODE(journal.stat().st_mode) & 0o077 == 0
    finally:
        os.umask(before)


def test_a_second_daemon_on_the_same_home_is_refused(short: Path, model: str) -> None:
    with running(short / "home", short / "s", model) as daemon:
        same = run_to_end(command(short / "home", short / "s", model))
        assert same.returncode == 1
        assert "running on" in same.stderr and "do:" in same.stderr
        other = run_to_end(command(short / "home", short / "other", model))
        assert other.returncode == 1
        assert "Traceback" not in same.stderr + other.stderr
        assert not (short / "other").exists()
        with daemon.client() as ada:
            assert ada.health()["status"] == "ok"


def test_a_file_that_is_no_socket_is_left_alone(short: Path, model: str) -> None:
    place = short / "s"
    place.write_text("mine")
    refused = run_to_end(command(short / "home", place, model))
    assert refused.returncode == 1
    assert "is not a socket" in refused.stderr
    assert place.read_text() == "mine"


def test_a_socket_that_answers_is_left_alone(short: Path) -> None:
    place = short / "s"
    with sockets.socket(sockets.AF_UNIX) as somebody:
        somebody.bind(str(place))
        somebody.listen()
        with pytest.raises(Conflict, match="running"), Door(place):
            pass
        assert place.exists()
    with Door(place) as ours:
        assert ours.getsockname() == str(place)
    assert not place.exists()


def test_a_path_that_is_too_long_is_refused_with_the_mend(short: Path, model: str) -> None:
    longest = Path("/" + "x" * (LONGEST_PATH - 2))
    check(longest)
    with pytest.raises(BadSetting, match="bytes"):
        check(longest.with_name(longest.name + "x"))
    with pytest.raises(BadSetting):
        check(Path("/" + "ä" * (LONGEST_PATH // 2)))
    refused = run_to_end(command(short / "home", short / ("x" * 120), model))
    assert refused.returncode == 1
    assert "socket.path" in refused.stderr


def test_it_stops_when_told_while_it_is_still_waking(short: Path, model: str) -> None:
    process = subprocess.Popen(
        command(short / "home", short / "s", model), stderr=subprocess.PIPE, env=environment()
    )
    while not (short / "s").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.terminate()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said.decode()
    assert not (short / "s").exists()


def test_bad_settings_and_models_are_said_plainly(short: Path) -> None:
    for bad, word in (("model.nam=x", "model.nam"), (f"model.name={short}/none", "none")):
        refused = run_to_end(command(short / "home", short / "s", bad))
        assert refused.returncode == 1
        assert word in refused.stderr and "Traceback" not in refused.stderr
    assert run_to_end([*command(short / "home", short / "s"), "--set", "nonsense"]).returncode == 2
    assert "--home" in run_to_end([sys.executable, str(CHECKOUT / "circadian_daemon.py"), "--help"]).stdout


def test_the_daemon_imports_no_model_library() -> None:
    code = (
        "import sys, circadian_daemon, ada_memory.service.daemon as d\n"
        "heavy = {'torch', 'transformers', 'peft', 'sentence_transformers', 'chromadb', 'mlx', 'sklearn'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_daemon_that_answers_has_imported_no_model_library(short: Path, model: str) -> None:
    with running(short / "home", short / "s", model) as daemon, daemon.client() as ada:
        ada.post("My name is Carla.")
        wait_for_memories(ada, 1)
        maps = Path(f"/proc/{daemon.process.pid}/maps")
        if maps.exists():
            assert "libtorch" not in maps.read_text()


def wait_for_memories(ada: Client, count: int) -> None:
    deadline = time.monotonic() + 120
    while ada.status()["counts"]["memories"] < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_waiting_until_awake_tells_of_a_daemon_that_dies(short: Path) -> None:
    with pytest.raises(AssertionError, match="nosuch"):
        with running(short / "home", short / "s", "model.name=nosuch") as daemon:
            wait_until_awake(daemon)
