"""The encode loop: one interaction that cannot be encoded holds up nobody, and is not given up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from ada_memory.errors import Unavailable
from ada_memory.hippocampus.journal import Journal
from ada_memory.hippocampus.vectors import Vectors
from ada_memory.records import Draft, Message
from ada_memory.service import encoder as loop
from ada_memory.service.embedding import Embedding
from ada_memory.service.encoder import Encoder
from ada_memory.settings import Settings
from tests.nights import NOON


class Worker:
    """Stands for the embed worker's process: dies of some texts, or of all while it is `down`."""

    def __init__(self) -> None:
        self.poison: set[str] = set()
        self.down = False

    async def hash(self) -> str:
        return "none"

    async def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.encode_from_thread(list(texts))

    def encode_from_thread(self, texts: list[str]) -> NDArray[np.float32]:
        if self.down or self.poison & set(texts):
            raise Unavailable("the embed worker died twice over one request")
        rng = np.random.default_rng(len(texts))
        return rng.normal(size=(len(texts), 4)).astype(np.float32)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal.open(tmp_path / "journal.db")


def _told(journal: Journal, *texts: str) -> None:
    for text in texts:
        journal.append(Draft((Message("user", text),), NOON)).result()


Story = Callable[[Encoder], Awaitable[None]]


def _run(journal: Journal, tmp_path: Path, worker: Worker, story: Story) -> None:
    """Let the loop run beside a story that steps from one state to the next."""

    async def nothing() -> None:
        return

    async def both() -> None:
        with Vectors(tmp_path / "chroma", "none") as vectors:
            encoder = Encoder(journal, vectors, cast(Embedding, worker), Settings(), nothing)
            task = asyncio.create_task(encoder.forever())
            await story(encoder)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    try:
        asyncio.run(both())
    finally:
        journal.close()


async def _until(done: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not done():
            await asyncio.sleep(0.01)


def test_one_that_fails_holds_up_nobody_and_gets_its_turn(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "FIRST_RETRY_SECONDS", 0.2)
    worker = Worker()
    worker.poison = {"My cat eats the embedder."}
    _told(journal, "My cat eats the embedder.", "My dog is called Bruno.", "My pony is called Sam.")

    async def story(encoder: Encoder) -> None:
        await _until(lambda: encoder.aside)
        assert list(encoder.aside) == [1]
        assert journal.counts()["unencoded"] == 1
        assert "died twice" in encoder.aside[1].why
        _told(journal, "My parrot is called Zazu.")
        encoder.wake()
        await _until(lambda: journal.counts()["memories"] == 3)
        worker.poison = set()
        await _until(lambda: not journal.counts()["unencoded"])
        await _until(lambda: not encoder.aside)

    _run(journal, tmp_path, worker, story)


def test_while_the_worker_is_down_nobody_is_put_aside(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "FIRST_PAUSE_SECONDS", 0.05)
    worker = Worker()
    worker.down = True
    _told(journal, "My dog is called Bruno.", "My pony is called Sam.")

    async def story(encoder: Encoder) -> None:
        await _until(lambda: encoder.trouble)
        assert encoder.aside == {}
        worker.down = False
        await _until(lambda: not journal.counts()["unencoded"])
        await _until(lambda: not encoder.trouble)

    _run(journal, tmp_path, worker, story)


def test_a_damaged_index_is_filled_anew_and_nothing_waits_for_it(journal: Journal, tmp_path: Path) -> None:
    _told(journal, "My dog is called Bruno.", "My pony is called Sam.")
    chroma = tmp_path / "chroma" / "chroma.sqlite3"

    async def first(_: Encoder) -> None:
        await _until(lambda: journal.counts()["memories"] == 2)

    async def second(_: Encoder) -> None:
        await _until(lambda: not again.counts()["unencoded"])

    _run(journal, tmp_path, Worker(), first)
    chroma.write_bytes(b"not a database" * 100)
    again = Journal.open(tmp_path / "journal.db")
    _told(again, "My parrot is called Zazu.")
    _run(again, tmp_path, Worker(), second)
    with Vectors(tmp_path / "chroma", "none") as vectors:
        assert vectors.count() == 3
