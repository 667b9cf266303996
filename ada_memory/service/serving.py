"""The voice by day: chats go in, replies of the generation that serves come out; it is swapped hot."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ada_memory.engines.engine import Completion, Sampling
from ada_memory.errors import AdaError, BadModel, Unavailable
from ada_memory.records import Chat
from ada_memory.service.reminders import Read, Reminder
from ada_memory.service.workers import Worker, python
from ada_memory.settings import ModelSettings
from ada_memory.sovereign.generations import Serving

log = logging.getLogger("ada.voice")

MODULE = "ada_memory.service.voice"
OFFLINE = {"HF_HUB_OFFLINE": "1"}  # the voice loads folders; nothing is fetched while somebody waits
PARENT_STAYS = "the generation before it goes on serving"


@dataclass(frozen=True, slots=True)
class Spoken:
    """A reply and the generation that gave it."""

    completion: Completion
    generation: str
    read: tuple[Read, ...] = ()
    """What the model read of each reminder, in the order they were given."""


@dataclass(frozen=True, slots=True)
class _Voice:
    generation: str
    worker: Worker


class Voice:
    """The model that serves. Requests that began on one generation end on it."""

    def __init__(self, settings: ModelSettings, logs: Path, serving: Serving) -> None:
        self._settings = settings
        self._logs = logs
        self._now = self._open(serving)
        self._swapping = asyncio.Lock()
        self._leaving: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def generation(self) -> str:
        """The generation that answers."""
        return self._now.generation

    @property
    def worker(self) -> Worker:
        """The worker that holds it."""
        return self._now.worker

    async def generate(
        self, chat: Chat, sampling: Sampling, reminders: Sequence[Reminder] = ()
    ) -> Spoken:
        """One reply; of the reminders, most similar first, the model reads those that fit.

        Raises:
            BadInput: the model cannot read this chat.
            Unavailable: the worker died twice over it.
        """
        voice = self._now
        try:
            completion, read = await _say(voice.worker, chat, sampling, reminders)
        except Unavailable:
            if voice is self._now:
                raise
            voice = self._now  # the one we asked was on its way out
            completion, read = await _say(voice.worker, chat, sampling, reminders)
        return Spoken(completion, voice.generation, read)

    async def swap(self, serving: Serving) -> None:
        """Start and probe the voice of another generation, then let it serve; no request is dropped.

        Raises:
            AdaError: it did not start or failed the probe; the old one goes on serving.
        """
        async with self._swapping:
            new = self._open(serving)
            try:
                await new.worker.warm()
                await probe(new.worker, serving.generation)
                if self._closed:
                    raise Unavailable("the daemon is stopping", hint="ask again when it is back")
            except BaseException:
                await new.worker.close()
                raise
            old, self._now = self._now, new
            log.info("%s serves now, %s leaves", new.generation, old.generation)
            task = asyncio.create_task(_leave(old.worker))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def close(self) -> None:
        """End all voices; requests under way get Unavailable."""
        self._closed = True
        leaving = list(self._leaving)
        for task in leaving:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        await self._now.worker.close()

    def _open(self, serving: Serving) -> _Voice:
        argv = python(MODULE, *arguments(self._settings, serving))
        return _Voice(serving.generation, Worker("voice", argv, self._logs / "voice.log", OFFLINE))


async def probe(worker: Worker, generation: str) -> None:
    """A new voice must speak before it may serve.

    Raises:
        BadModel: its figures are not finite, or it has nothing to say.
    """
    reply = await worker.call("probe")
    if not reply.get("finite"):
        raise BadModel(f"{generation} computes figures that are not finite", hint=PARENT_STAYS)
    if not str(reply.get("text", "")).strip():
        raise BadModel(f"{generation} has nothing to say", hint=PARENT_STAYS)


def arguments(settings: ModelSettings, serving: Serving) -> list[str]:
    """What the voice worker is told on its command line."""
    adapter = ["--adapter", str(serving.adapter)] if serving.adapter else []
    return [
        "--engine", settings.engine, "--model", str(serving.model), *adapter, "--device", settings.device,
        "--dtype", settings.dtype, "--threads", str(settings.threads),
    ]


async def _say(
    worker: Worker, chat: Chat, sampling: Sampling, reminders: Sequence[Reminder]
) -> tuple[Completion, tuple[Read, ...]]:
    messages = [{"role": message.role, "content": message.content} for message in chat]
    reply = await worker.call(
        "generate", chats=[messages], max_tokens=sampling.max_tokens, temperature=sampling.temperature,
        seed=sampling.seed, reminders=[{"text": one.text, "age": one.age} for one in reminders],
    )
    first = reply["completions"][0]
    completion = Completion(
        text=str(first["text"]), prompt_tokens=int(first["prompt_tokens"]), tokens=int(first["tokens"]),
        finished=bool(first["finished"]),
    )
    return completion, tuple(reply["read"])


async def _leave(worker: Worker) -> None:
    """Let an old voice finish what it began, then end it."""
    try:
        await worker.drained()
    finally:
        try:
            await worker.close()
        except (AdaError, OSError) as error:
            log.warning("an old voice did not end cleanly: %s", error)


