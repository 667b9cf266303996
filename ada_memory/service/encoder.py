"""The encode loop: interactions that the journal has not encoded go in, memories come of them, by and by.

What fails is tried again, later and later. An interaction that fails by itself, while those around it pass,
is put aside and does not hold up the ones behind it; it stays in the journal and is tried again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ada_memory.errors import AdaError, BadIndex
from ada_memory.hippocampus.encode import encode_batch
from ada_memory.hippocampus.journal import Journal
from ada_memory.hippocampus.reindex import differs, reindex
from ada_memory.hippocampus.vectors import Vectors
from ada_memory.service.embedding import Embedding
from ada_memory.settings import Settings

log = logging.getLogger("ada.encoder")

BATCH = 32
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0
FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 60.0, 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Aside:
    """Why an interaction was put aside, and when (by the loop's clock) it is tried again."""

    why: str
    tries: int
    due: float


class Encoder:
    """`forever()` is the loop; `wake()` tells it that there is work."""

    def __init__(
        self, journal: Journal, vectors: Vectors, embedding: Embedding, settings: Settings,
        then: Callable[[], Awaitable[object]],
    ) -> None:
        """`then` is called after each batch of new memories."""
        self._journal, self._vectors, self._embedding = journal, vectors, embedding
        self._settings, self._then = settings, then
        self._work = asyncio.Event()
        self._work.set()  # what an earlier life has left
        self._unlike = True  # whether the index may differ from the journal: so it may after a crash
        self.trouble = ""
        """Why nothing can be encoded just now; empty while all is well."""
        self.aside: dict[int, Aside] = {}
        """Positions that fail by themselves."""

    def wake(self) -> None:
        """The journal has something that is not encoded."""
        self._work.set()

    async def forever(self) -> None:
        """Encode what there is, wait for more."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            await self._wait()
            self._work.clear()
            try:
                while await self._round():
                    pause, self.trouble = FIRST_PAUSE_SECONDS, ""
                    await self._then()
                self.trouble = ""
            except Exception as error:  # the daemon's tick: whatever it is, the day goes on
                self.trouble = str(error)
                trace = None if isinstance(error, AdaError) else error
                log.error("encoding failed, again in %.0f s: %s", pause, error, exc_info=trace)
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
                self._work.set()

    async def _wait(self) -> None:
        """Until there is work, or something that was put aside is due."""
        due = min((each.due for each in self.aside.values()), default=None)
        try:
            await asyncio.wait_for(self._work.wait(), None if due is None else max(0.0, due - _now()))
        except TimeoutError:
            pass

    async def _round(self) -> bool:
        """One batch; if it fails, one by one. False once there is nothing to do."""
        later = frozenset(position for position, each in self.aside.items() if each.due > _now())
        try:
            some = await self._encode(BATCH, later) > 0
        except Exception:  # whatever it is: somebody in the batch may be to blame for it
            await self._embedding.encode(["Is anybody there?"])  # raises if the worker is to blame
            if not await self._one_by_one(later):
                raise
            return True
        self.aside = {position: each for position, each in self.aside.items() if position in later}
        return some

    async def _one_by_one(self, later: frozenset[int]) -> bool:
        """Encode a batch one at a time; who fails where others pass is put aside. False: nobody is."""
        waiting = await asyncio.to_thread(self._journal.unencoded, BATCH, later)
        failed: dict[int, Exception] = {}
        for interaction in waiting:
            try:
                await self._encode(1, later | failed.keys())
                self.aside.pop(interaction.position, None)
            except Exception as error:  # noqa: BLE001  as above
                failed[interaction.position] = error
        if len(failed) == len(waiting) and not failed.keys() <= self.aside.keys():
            return False  # nothing passes: that is nobody's own fault
        for position, why in failed.items():
            self._put_aside(position, why)
        return True

    def _put_aside(self, position: int, error: Exception) -> None:
        tries = self.aside[position].tries + 1 if position in self.aside else 1
        wait = min(FIRST_RETRY_SECONDS * 2 ** (tries - 1), LONGEST_RETRY_SECONDS)
        self.aside[position] = Aside(str(error), tries, _now() + wait)
        log.error("interaction %d cannot be encoded, again in %.0f s: %s", position, wait, error)

    async def _encode(self, limit: int, skip: frozenset[int]) -> int:
        embedder = await self._embedding.hash()
        return await self._in_thread(lambda: self._encode_now(embedder, limit, skip))

    def _encode_now(self, embedder: str, limit: int, skip: frozenset[int]) -> int:
        embed, journal, vectors = self._embedding.encode_from_thread, self._journal, self._vectors
        if self._unlike:
            self._reindex()
        try:
            return encode_batch(journal, embed, embedder, self._settings, vectors, limit, skip)
        except BadIndex as error:
            log.warning("%s", error.message)
            self._unlike = True
            raise

    def _reindex(self) -> None:
        """The index is made of the journal: where it is not, it is made anew."""
        if differs(self._journal, self._vectors):
            log.warning("the index was filled anew with %d vectors", reindex(self._journal, self._vectors))
        self._unlike = False

    async def _in_thread(self, work: Callable[[], int]) -> int:
        task = asyncio.create_task(asyncio.to_thread(work))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:  # the journal is closed next: not under a thread's hands
            await asyncio.wait([task])
            raise


def _now() -> float:
    return asyncio.get_running_loop().time()
