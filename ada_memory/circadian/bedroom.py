"""Where the sleeper sleeps: one child process and the lines that it says. A night enters, events leave.

The child is in a process group of its own, which can be made to stand still, and ends when the daemon does.
What libraries say on standard error goes to the night's `sleeper.log`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import ada_memory
from ada_memory.circadian.bundle import NightBundle

Heard = Callable[[NightBundle, dict[str, object]], Awaitable[None]]
_LONGEST_LINE = 8 << 20
_PACKAGE = Path(ada_memory.__file__).resolve().parent.parent
log = logging.getLogger(__name__)


class Bedroom:
    """At most one sleeper at a time. `heard` is called for each of its events, in order."""

    def __init__(self, stages: str, heard: Heard) -> None:
        self._stages = stages
        self._heard = heard
        self._child: asyncio.subprocess.Process | None = None
        self._closed = self._roused = self._still = False

    @property
    def pid(self) -> int | None:
        """The child's process id, which is its process group's too; None while nobody sleeps."""
        return self._child.pid if self._child else None

    async def sleep(self, night: NightBundle) -> int:
        """Run the heavy stages that are left, up to the night's `until`; returns the exit status."""
        if self._closed:
            return -signal.SIGTERM
        self._roused = False
        with (night.folder / "sleeper.log").open("ab") as errors:
            self._child = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "ada_memory.circadian.sleeper", str(night.folder),
                "--until", night.until, "--stages", self._stages, "--parent", str(os.getpid()),
                "--died", str(night.died),
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=errors,
                cwd=_PACKAGE, process_group=0, limit=_LONGEST_LINE,
            )
        child = self._child
        try:
            # What was asked for while the child was being made.
            if self._closed or self._roused:
                self._signal(child, signal.SIGKILL)
            elif self._still:
                self._signal(child, signal.SIGSTOP)
            async for line in cast(asyncio.StreamReader, child.stdout):
                await self._hear(night, line)
            return await child.wait()
        finally:
            self._signal(child, signal.SIGKILL)
            await child.wait()
            self._child = None

    def hold(self, still: bool) -> None:
        """Stop the child and its group where they are, or let them go on; so with every child to come."""
        self._still = still
        if self._child is not None:
            self._signal(self._child, signal.SIGSTOP if still else signal.SIGCONT)

    def rouse(self) -> None:
        """End the child and its whole group, now; it keeps nothing that is not on disk."""
        self._roused = True
        if self._child is not None:
            self._signal(self._child, signal.SIGKILL)

    def close(self) -> None:
        """End the child, and let no other begin."""
        self._closed = True
        self.rouse()

    async def _hear(self, night: NightBundle, line: bytes) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            log.warning("the sleeper said what is no event: %.200r", line)
            return
        if isinstance(event, dict):
            await self._heard(night, event)

    def _signal(self, child: asyncio.subprocess.Process, number: signal.Signals) -> None:
        """Send a signal to the whole group; one that is stopped is killed all the same."""
        if child.returncode is None:
            # macOS says PermissionError of a group of zombies.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, number)
