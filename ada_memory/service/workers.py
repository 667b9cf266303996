"""Child processes that hold what is heavy: a request goes in as one JSON line, its reply comes out as one.

The daemon itself never imports a model library. A child that dies is started again and the request that it
died of is asked once more; after that the caller is told `Unavailable`. Requests may overlap.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ada_memory import errors
from ada_memory.errors import AdaError, Unavailable, WorkerDied
from ada_memory.settings import CHECKOUT

log = logging.getLogger("ada.workers")

LINE_LIMIT = 256 * 1024 * 1024
START_SECONDS = 300.0
CALL_SECONDS = 900.0
END_SECONDS = 5.0
RETRY_AFTER = "it is started again on the next request; its log in var/log says why it ended"

Reply = dict[str, Any]


class Child:
    """One life of a worker process, from its ready line to its end."""

    def __init__(
        self, name: str, process: asyncio.subprocess.Process, requests: asyncio.StreamWriter
    ) -> None:
        self.name = name
        self.ready: Reply = {}
        self._process = process
        self._requests = requests
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._next = 0
        self._write = asyncio.Lock()
        self._reader: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls, name: str, argv: Sequence[str], logfile: Path, env: Mapping[str, str] | None = None
    ) -> Child:
        """Start the process and wait for its ready line.

        Raises:
            WorkerDied: it ended, or said nothing, before it was ready.
            AdaError: what it says keeps it from being ready, by its own type.
        """
        logfile.parent.mkdir(parents=True, exist_ok=True)
        with logfile.open("ab") as sink:
            process = await asyncio.create_subprocess_exec(
                *argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=sink,
                env={**_environment(), **(env or {})}, limit=LINE_LIMIT,
                start_new_session=True,  # Ctrl-C in the daemon's terminal must not reach it first
            )
        if process.stdin is None or process.stdout is None:
            raise WorkerDied(f"the {name} worker has no pipes", hint=RETRY_AFTER)
        child = cls(name, process, process.stdin)
        try:
            child.ready = _parse(await asyncio.wait_for(process.stdout.readline(), START_SECONDS))
            if "error" in child.ready:
                raise _raised(child.ready)
            if not child.ready.get("ready"):
                raise WorkerDied(f"the {name} worker ended before it was ready", hint=f"see {logfile}")
        except TimeoutError:
            await child.end(0)
            raise WorkerDied(f"the {name} worker was not ready in time", hint=f"see {logfile}") from None
        except BaseException:
            await child.end(0)
            raise
        child._reader = asyncio.create_task(child._read(process.stdout))
        return child

    @property
    def alive(self) -> bool:
        """Whether it can still be asked."""
        return self._process.returncode is None and self._reader is not None and not self._reader.done()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def call(self, op: str, fields: Mapping[str, object]) -> Reply:
        """Ask one thing.

        Raises:
            WorkerDied: the process ended, or took too long, before it answered.
            AdaError: what the worker itself raised, by its own type.
        """
        if not self.alive:
            raise WorkerDied(f"the {self.name} worker has ended", hint=RETRY_AFTER)
        self._next += 1
        number = self._next
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            async with self._write:
                self._requests.write(json.dumps({"id": number, "op": op, **fields}).encode() + b"\n")
                await self._requests.drain()
            reply = await asyncio.wait_for(answer, CALL_SECONDS)
        except (ConnectionError, TimeoutError) as error:
            await self.end(0)
            raise WorkerDied(f"the {self.name} worker did not answer {op}", hint=RETRY_AFTER) from error
        finally:
            self._waiting.pop(number, None)
        if not reply.get("ok"):
            raise _raised(reply)
        return reply

    async def _read(self, stdout: asyncio.StreamReader) -> None:
        """Hand each reply to who waits for it; at the end of the pipe tell all who still wait."""
        died = WorkerDied(f"the {self.name} worker ended in the middle of a request", hint=RETRY_AFTER)
        try:
            while line := await stdout.readline():
                reply = _parse(line)
                answer = self._waiting.get(int(reply.get("id", 0)))
                if answer is not None and not answer.done():
                    answer.set_result(reply)
        finally:
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(died)

    async def end(self, patience: float = END_SECONDS) -> None:
        """Close its input, wait `patience` seconds for it to finish, then kill its process group."""
        self._requests.close()
        try:
            if patience > 0:
                await asyncio.wait_for(self._process.wait(), patience)
        except TimeoutError:
            log.warning("the %s worker did not end by itself", self.name)
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()
        if self._reader is not None:
            await asyncio.wait([self._reader])


class Worker:
    """A worker that is always there: started when first asked, started again when it died."""

    def __init__(
        self, name: str, argv: Sequence[str], logfile: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self._env = env
        self._argv = tuple(argv)
        self._logfile = logfile
        self._child: Child | None = None
        self._starting = asyncio.Lock()
        self._start: asyncio.Task[Child] | None = None
        self._calls = 0
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()
        self.deaths = 0
        """How many of its children have ended by themselves, those that never became ready included."""
        self.fault = ""
        """Why the last of them did."""

    @property
    def state(self) -> str:
        """"ready", "starting", "closed", or "idle" (not started yet, or dead and not asked since)."""
        if self._closed:
            return "closed"
        if self._child is not None and self._child.alive:
            return "ready"
        return "starting" if self._starting.locked() else "idle"

    @property
    def pid(self) -> int | None:
        """Process id of the child that runs now."""
        return self._child.pid if self._child is not None and self._child.alive else None

    async def warm(self) -> Reply:
        """Start the child unless it runs; returns its ready line.

        Raises:
            Unavailable: the worker is closed.
            WorkerDied: it did not become ready.
            AdaError: what it says keeps it from being ready.
        """
        return (await self._live()).ready

    async def _live(self) -> Child:
        async with self._starting:
            if self._closed:
                raise Unavailable(f"the {self.name} worker is closed", hint="the daemon is stopping")
            if self._child is None or not self._child.alive:
                if self._child is not None:
                    log.warning("the %s worker died; starting it again", self.name)
                    await self._child.end(0)
                    self._child, self.deaths = None, self.deaths + 1
                    self.fault = f"the {self.name} worker ended in the middle of its work"
                self._child = await self._begin()
                log.info("the %s worker is ready (pid %d)", self.name, self._child.pid)
            return self._child

    async def _begin(self) -> Child:
        start = asyncio.create_task(Child.start(self.name, self._argv, self._logfile, self._env))
        self._start = start
        try:
            await asyncio.wait([start])  # tells being cancelled ourselves from `close` cancelling the start
        except asyncio.CancelledError:
            start.cancel()
            await asyncio.wait([start])
            raise
        if start.cancelled():
            raise Unavailable(f"the {self.name} worker is closed", hint="the daemon is stopping")
        if (failed := start.exception()) is not None:
            self.deaths, self.fault = self.deaths + 1, str(failed)
        return start.result()

    async def call(self, op: str, **fields: object) -> Reply:
        """Ask one thing; if the child dies of it, ask a new one once more.

        Raises:
            Unavailable: two children died, or the worker is closed.
            AdaError: what the worker itself raised.
        """
        self._calls += 1
        self._idle.clear()
        try:
            for _ in range(2):
                try:
                    return await (await self._live()).call(op, fields)
                except WorkerDied as error:
                    log.warning("%s", error.message)
            raise Unavailable(f"the {self.name} worker died twice over one request", hint=RETRY_AFTER)
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle.set()

    async def drained(self) -> None:
        """Wait until no request is under way."""
        await self._idle.wait()

    async def close(self) -> None:
        """End the child for good; whoever waits for it gets Unavailable."""
        self._closed = True
        if self._start is not None:
            self._start.cancel()  # a model that is still loading must not hold up the end
        async with self._starting:
            if self._child is not None:
                await self._child.end(END_SECONDS if not self._calls else 0)


def python(module: str, *args: str) -> list[str]:
    """The command line of a child that runs `module` with this very Python and ends when we do."""
    return [sys.executable, "-m", module, *args, "--parent", str(os.getpid())]


def _environment() -> dict[str, str]:
    path = [str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ, "PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def _parse(line: bytes) -> Reply:
    try:
        reply = json.loads(line or b"{}")
    except ValueError:
        return {}
    return reply if isinstance(reply, dict) else {}


def _raised(reply: Mapping[str, Any]) -> AdaError:
    """The error that a worker told of, as the type it names; anything unknown is a plain AdaError."""
    kind = getattr(errors, str(reply.get("type")), AdaError)
    known = kind if isinstance(kind, type) and issubclass(kind, AdaError) else AdaError
    return known(str(reply.get("error", "the worker failed")), hint=str(reply.get("hint", "")))
