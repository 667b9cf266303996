"""A real daemon in a process of its own, on a throw-away home, for the tests that talk to it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from ada_memory.client import Client
from ada_memory.errors import Unavailable
from ada_memory.settings import CHECKOUT

PATIENCE_SECONDS = 60.0


@dataclass
class Running:
    """One daemon: its process, its home, where it listens and what it has said."""

    process: subprocess.Popen[bytes]
    home: Path
    socket: Path
    log: Path

    def client(self) -> Client:
        """A new connection to it."""
        return Client(self.socket)

    def http(self) -> httpx.Client:
        """Plain HTTP to it, for what our own client would not send."""
        transport = httpx.HTTPTransport(uds=str(self.socket))
        return httpx.Client(transport=transport, base_url="http://ada", timeout=120)

    def said(self) -> str:
        """Its log so far."""
        return self.log.read_text("utf-8")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; returns the exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_SECONDS)


def command(home: Path, socket: Path, *sets: str) -> list[str]:
    """The daemon's command line. Workers start when they are needed: most tests ask nothing of the voice."""
    pairs = [f"socket.path={socket}", "sunset.at=", "model.warm=false", *sets]
    flags = [word for pair in pairs for word in ("--set", pair)]
    return [sys.executable, str(CHECKOUT / "circadian_daemon.py"), "--home", str(home), *flags]


def environment() -> dict[str, str]:
    """Ours, without settings that a developer may have exported."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ADA_")}


@contextmanager
def short_folder() -> Iterator[Path]:
    """A folder whose name is short enough for a socket, on macOS too."""
    folder = Path(tempfile.mkdtemp(prefix="ada", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def running(home: Path, socket: Path, *sets: str) -> Iterator[Running]:
    """Start a daemon, wait until it answers, and stop it at the end if it still runs."""
    home.mkdir(parents=True, exist_ok=True)
    log = home / "daemon.log"
    with log.open("ab") as sink:
        process = subprocess.Popen(command(home, socket, *sets), stderr=sink, stdout=sink, env=environment())
    daemon = Running(process, home, socket, log)
    try:
        wait_until_awake(daemon)
        yield daemon
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def until(true: Callable[[], object]) -> None:
    """Wait for something that comes by itself."""
    deadline = time.monotonic() + 2 * PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def wait_until_awake(daemon: Running) -> None:
    """Return once it answers; fail with its log if it ends or stays silent."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    with daemon.client() as ada:
        while True:
            try:
                ada.health()
                return
            except Unavailable:
                assert daemon.process.poll() is None, daemon.said()
                assert time.monotonic() < deadline, daemon.said()
                time.sleep(0.05)


def run_to_end(args: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a daemon that is expected to refuse."""
    return subprocess.run(
        args, capture_output=True, text=True, timeout=PATIENCE_SECONDS, env=environment(), check=False
    )
