"""A real daemon on a throw-away home, for benchmarks and the demonstration."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import circadian_daemon
from ada_memory.client import Client
from ada_memory.engines.engine import Engine, Hardware, named_engine, open_engine
from ada_memory.errors import Unavailable
from ada_memory.settings import Home, ModelSettings, load

START_SECONDS, ENCODE_SECONDS, NIGHT_SECONDS, END_SECONDS = 120, 300, 3_600, 60
DAEMON = (circadian_daemon.__file__,)


@dataclass(frozen=True, slots=True)
class House:
    """A running daemon: its home, a client on its socket, and what its settings say of its model."""

    home: Home
    client: Client
    model: ModelSettings = ModelSettings()

    def engine(self, generation: str | None = None) -> Engine:
        """The model of a generation (the active one if none is named), loaded beside the daemon."""
        status = self.client.status()
        name = generation or status["generation"]
        base = self.home.bases / status["base"][:12]
        adapter = self.home.generations / name / "adapter"
        hardware = Hardware.of(self.model)
        return open_engine(self.model.engine, base, adapter if adapter.is_dir() else None, hardware)

    def engine_name(self) -> str:
        """The engine that runs its model: what "auto" stands for here."""
        return named_engine(self.model.engine, self.home.bases / self.client.status()["base"][:12])

    def tell(self, texts: Iterable[str], day: str) -> None:
        """Post a day's messages, each under a key (what is there already is not told twice), and wait."""
        for place, text in enumerate(texts):
            self.client.post(text, app="bench", key=f"{day}-{place}")
        self.wait_encoded()

    def wait_encoded(self) -> None:
        """Wait until everything that was posted has become memories."""
        deadline = time.monotonic() + ENCODE_SECONDS
        while self.client.status()["counts"].get("unencoded", 0):
            if time.monotonic() > deadline:
                raise Unavailable("the hippocampus did not embed the day's interactions in time")
            time.sleep(0.2)

    def wait_night(self, night: str) -> dict[str, object]:
        """Wait for a night's report."""
        deadline = time.monotonic() + NIGHT_SECONDS
        while time.monotonic() < deadline:
            found = self.client.night(night)
            if found.get("report") and self.client.status()["state"] == "awake":
                return dict(found["report"])
            time.sleep(0.5)
        raise Unavailable(f"night {night} did not end in time")


@contextmanager
def house(root: Path | None, settings: Mapping[str, object]) -> Iterator[House]:
    """Start circadian_daemon.py as a process of its own; it ends with the block."""
    with tempfile.TemporaryDirectory(prefix="ada-") as scratch:
        home = Home((root or Path(scratch)).resolve())
        socket = Path(scratch) / "ada.sock"
        process = launch(home, socket, settings)
        try:
            with Client(socket) as client:
                wait_awake(client, process, home)
                flags = {name: str(value) for name, value in settings.items()}
                yield House(home, client, load(home.etc / "ada.toml", {}, flags).model)
        finally:
            stop(process)


def launch(
    home: Home, socket: Path, settings: Mapping[str, object], program: Sequence[str] = DAEMON
) -> subprocess.Popen[bytes]:
    """Start a daemon that says what it has to say in `daemon.log` of its home."""
    home.root.mkdir(parents=True, exist_ok=True)
    flags = [f"--set={key}={value}" for key, value in {"socket.path": socket, **settings}.items()]
    with (home.root / "daemon.log").open("ab") as out:
        return subprocess.Popen(  # noqa: S603  our own program with our own arguments
            [sys.executable, *program, "--home", str(home.root), *flags],
            stdout=out,
            stderr=out,
            env={k: v for k, v in os.environ.items() if not k.startswith("ADA_")},
        )


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a daemon, by force if it takes its time."""
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_awake(client: Client, process: subprocess.Popen[bytes], home: Home) -> None:
    """Return once the daemon answers.

    Raises:
        Unavailable: it ended, or did not answer in time.
    """
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            said = (home.root / "daemon.log").read_text("utf-8")[-2000:]
            raise Unavailable(f"the daemon ended with {process.returncode}: {said}")
        try:
            if client.health()["status"] == "ok":
                return
        except Unavailable:
            pass
        time.sleep(0.1)
    raise Unavailable("the daemon did not wake in time")
