"""Texts go to the embed worker, unit vectors come back; also for threads that are not the loop's."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ada_memory.service.workers import Worker, python
from ada_memory.settings import EmbedderSettings

MODULE = "ada_memory.hippocampus.embed_worker"


class Embedding:
    """The embed worker, as the daemon sees it."""

    def __init__(self, settings: EmbedderSettings, logs: Path) -> None:
        self._loop = asyncio.get_running_loop()
        self.worker = Worker("embed", python(MODULE, *arguments(settings)), logs / "embed.log")

    async def hash(self) -> str:
        """Which embedder this is, by its weights; starts the worker."""
        return str((await self.worker.warm())["embedder"])

    async def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors of the texts: float32, shape (texts, dim).

        Raises:
            Unavailable: the worker died twice over it.
        """
        reply = await self.worker.call("encode", texts=list(texts))
        flat = np.frombuffer(base64.b64decode(reply["vectors"]), dtype="<f4")
        return flat.reshape(len(texts), int(reply["dim"])).astype(np.float32)

    def encode_from_thread(self, texts: list[str]) -> NDArray[np.float32]:
        """`encode`, for a thread that may wait: the encode loop's."""
        return asyncio.run_coroutine_threadsafe(self.encode(texts), self._loop).result()


def arguments(settings: EmbedderSettings) -> list[str]:
    """What the worker is told on its command line."""
    return ["--name", settings.name, "--batch-size", str(settings.batch_size)]
