"""The daemon: home and settings enter, and until it is told to stop a mind is awake on a Unix socket.

It owns the journal and the children. It imports no model library: the voice, the embedder and the night are
processes of their own, so that nothing blocks the day.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from ada_memory.circadian.night import NightRunner
from ada_memory.circadian.stages import HEAVY
from ada_memory.circadian.sunset import Sunset
from ada_memory.engines.engine import UNFINISHED
from ada_memory.errors import AdaError, BadModel
from ada_memory.hippocampus.embedder import embedder_hash, resolve
from ada_memory.hippocampus.journal import Journal
from ada_memory.hippocampus.vectors import Vectors
from ada_memory.service import api
from ada_memory.service.embedding import Embedding
from ada_memory.service.encoder import Encoder
from ada_memory.service.events import Events
from ada_memory.service.rooms import Rooms
from ada_memory.service.serving import Voice
from ada_memory.service.wire import Door, Server
from ada_memory.settings import Home, Settings
from ada_memory.sovereign import generations, lines
from ada_memory.sovereign.disk import sweep
from ada_memory.sovereign.generations import ROOT, Base, Serving

log = logging.getLogger("ada")

GRACE_SECONDS = 10


def utc_now() -> datetime:
    """The clock of a daemon that runs for real."""
    return datetime.now(UTC)


class Daemon:
    """One mind, awake from `run` to `stop`."""

    def __init__(
        self, home: Home, settings: Settings, clock: Callable[[], datetime] = utc_now, *, stages: str = HEAVY
    ) -> None:
        """`stages` is the module that holds the heavy stages of its nights."""
        self._home = home
        self._settings = settings
        self._clock = clock
        self._stages = stages
        self._stopping = asyncio.Event()
        self._server: Server | None = None
        self._events: Events | None = None

    async def run(self) -> None:
        """Open everything, serve, and close everything again.

        Raises:
            Conflict: another daemon has this socket.
            AdaError: the base, the embedder or the journal cannot be used.
        """
        os.umask(0o077)  # whatever is written from here on is for its owner's eyes
        path = self._home.socket(self._settings.socket)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        try:
            with Door(path) as sock:
                opening = asyncio.create_task(self._serve(path, sock))
                stopped = asyncio.create_task(self._stopping.wait())
                await asyncio.wait((opening, stopped), return_when=asyncio.FIRST_COMPLETED)
                if self._server is None and not opening.done():
                    opening.cancel()  # told to stop while still opening
                stopped.cancel()
                with suppress(asyncio.CancelledError):
                    await opening
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
        log.info("ada has stopped")

    def stop(self) -> None:
        """Finish what is under way and end; a second call waits for nothing."""
        if self._stopping.is_set() and self._server is not None:
            self._server.force_exit = True
        log.info("stopping")
        self._stopping.set()
        if self._events is not None:
            self._events.close()
        if self._server is not None:
            self._server.should_exit = True

    async def _serve(self, path: Path, sock: socket.socket) -> None:
        async with self._open(path) as rooms:
            background = [asyncio.create_task(rooms.encoder.forever())]

            def ready() -> None:
                log.info("ada is awake on %s as %s", path, rooms.voice.generation)
                if self._settings.model.warm:
                    background.append(asyncio.create_task(_warm(rooms)))

            try:
                await rooms.night.resume()
                await rooms.sunset.start()
                patience = self._settings.socket.patience_seconds
                self._server = Server(api.build(rooms), ready, GRACE_SECONDS, patience)
                await self._server.serve(sockets=[sock])
            finally:
                rooms.events.close()
                for task in background:
                    task.cancel()
                rooms.sunset.close()
                await rooms.night.close()
                await asyncio.gather(rooms.embedding.worker.close(), rooms.voice.close())
                await asyncio.gather(*background, return_exceptions=True)

    @asynccontextmanager
    async def _open(self, path: Path) -> AsyncIterator[Rooms]:
        """Everything that must be closed again, in its order."""
        home, settings = self._home, self._settings
        logs = home.var / "log"
        async with AsyncExitStack() as stack:
            self._events = events = Events()
            base = await asyncio.to_thread(generations.prepare_base, home, settings.model)
            embedder = await asyncio.to_thread(lambda: embedder_hash(resolve(settings.embedder.name)))
            home.mind.mkdir(parents=True, exist_ok=True)
            journal = await asyncio.to_thread(Journal.open, home.journal)
            stack.callback(journal.close)
            for left in await asyncio.to_thread(sweep, home.mind, UNFINISHED):
                log.info("removed %s, which an interrupted write has left", left.relative_to(home.mind))
            vectors = Vectors(home.chroma, embedder)
            stack.callback(vectors.close)
            chosen = await asyncio.to_thread(lines.change, home, journal, base, self._clock)
            if chosen is not None:
                log.info("the base is now %s, as was chosen; %s serves on it", base.name, chosen)
            serving = await asyncio.to_thread(first_serving, home, base)
            await asyncio.to_thread(generations.drop_merged, home, serving.generation)
            voice = Voice(settings.model, logs, serving)
            night = NightRunner(
                home, settings, journal, base, events.publish, voice.swap, self._clock, stages=self._stages
            )
            sunset = Sunset(settings.sunset, journal, night.sleep, self._clock)
            embedding = Embedding(settings.embedder, logs)
            yield Rooms(
                home=home, settings=settings, socket=path, base=base, journal=journal, vectors=vectors,
                embedding=embedding, voice=voice, night=night, sunset=sunset, events=events,
                encoder=Encoder(journal, vectors, embedding, settings, sunset.on_memory), clock=self._clock,
            )


def first_serving(home: Home, base: Base) -> Serving:
    """What serves on waking: the active generation, else the nearest ancestor of it that is whole."""
    try:
        name = generations.active(home)
    except BadModel as error:
        log.error("%s; %s serves", error.message, ROOT)
        name = ROOT
    while True:
        try:
            return generations.serving(home, base, name)
        except AdaError as error:
            if name == ROOT:
                raise
            parent = _parent(home, name)
            log.error("%s cannot serve: %s; %s serves instead", name, error.message, parent)
            name = parent


def _parent(home: Home, name: str) -> str:
    try:
        return str(generations.manifest(home, name)["parent"])
    except AdaError:
        return ROOT


async def _warm(rooms: Rooms) -> None:
    """Start the workers before anybody waits for them; those who come meanwhile wait with us."""
    for worker in (rooms.voice.worker, rooms.embedding.worker):
        try:
            await worker.warm()
        except AdaError as error:
            log.warning("the %s worker is not ready: %s", worker.name, error.message)
