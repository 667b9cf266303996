"""A flood of posts at a steady rate, and looks in between. A rate enters; what was kept and how fast leaves.

A daemon of its own on a throw-away home takes it. What it acknowledged is looked for in the journal after it
has ended. A post's time runs from when it was due: one that had to wait for its sender waited too.
"""

from __future__ import annotations

import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from ada_memory.bench.house import House, house
from ada_memory.client import Client
from ada_memory.errors import AdaError, Unavailable
from ada_memory.hippocampus.journal import Journal
from ada_memory.settings import Home

CONNECTIONS = 8
LOOKS_A_SECOND = 5.0
READY_SECONDS, STUCK_SECONDS = 300.0, 120.0
AWAKE: Mapping[str, object] = {"sunset.at": "", "sunset.capacity": 0}  # no night starts by itself
NAMES = ("Marta", "Jonas", "Ines", "Tariq", "Olga", "Pepe", "Sunniva", "Kwame", "Lucia", "Bao")


@dataclass(slots=True)
class Post:
    """One message: what it says, and once it was sent the id it got or the error, and the seconds it took."""

    text: str
    id: str = ""
    error: str = ""
    seconds: float = 0.0


@dataclass(slots=True)
class Looks:
    """What became of the requests that only read."""

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def run(
    *,
    rate: float,
    seconds: float,
    seed: int = 7,
    home: Path | None = None,
    settings: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """Post `rate` messages a second for so many seconds.

    Raises:
        Unavailable: the daemon did not wake, or its workers did not.
    """
    posts = [Post(text) for text in messages(max(1, round(rate * seconds)), seed)]
    with ExitStack() as stack:
        scratch = home or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ada-flood-")))
        with house(scratch, {**AWAKE, **(settings or {})}) as ada:
            _wait_ready(ada)
            looks = pour(ada.client.socket, posts, rate)
            began = time.monotonic()
            left = _wait_encoded(ada)
            figures = {
                "unencoded": left,
                "encoded_seconds": round(time.monotonic() - began, 1),
                "memories": ada.client.status()["counts"]["memories"],
            }
        return {"rate": rate, "seconds": seconds, **tell(posts, looks), **audit(ada.home, posts), **figures}


def messages(count: int, seed: int) -> list[str]:
    """So many facts, no two alike."""
    rng = random.Random(seed)
    return [
        f"The parcel {number} for {rng.choice(NAMES)} lies in locker {rng.randrange(100)}."
        for number in range(1, count + 1)
    ]


def pour(socket: Path, posts: Sequence[Post], rate: float) -> Looks:
    """Send each post when it is due, over several connections; look at the daemon meanwhile."""
    waiting, lock = iter(enumerate(posts)), threading.Lock()
    looks, over = Looks(), threading.Event()
    start = time.monotonic()

    def send() -> None:
        with Client(socket) as ada:
            while True:
                with lock:
                    number, post = next(waiting, (0, None))
                if post is None:
                    return
                due = start + number / rate
                time.sleep(max(0.0, due - time.monotonic()))
                try:
                    post.id = ada.post(post.text, app="flood", key=f"flood-{number}")["id"]
                except AdaError as error:
                    post.error = f"{type(error).__name__}: {error.message}"
                post.seconds = time.monotonic() - due

    senders = [threading.Thread(target=send) for _ in range(CONNECTIONS)]
    looker = threading.Thread(target=_look, args=(socket, looks, over))
    for thread in (*senders, looker):
        thread.start()
    for thread in senders:
        thread.join()
    over.set()
    looker.join()
    return looks


def _look(socket: Path, looks: Looks, over: threading.Event) -> None:
    with Client(socket) as ada:
        ways: tuple[Callable[[], object], ...] = (
            ada.status, ada.health, ada.memories, lambda: ada.memories("Where is the parcel?"), ada.nights,
        )  # fmt: skip
        number = 0
        while not over.wait(1 / LOOKS_A_SECOND):
            began = time.monotonic()
            try:
                ways[number % len(ways)]()
                looks.seconds.append(time.monotonic() - began)
            except AdaError as error:
                looks.errors.append(f"{type(error).__name__}: {error.message}")
            number += 1


def tell(posts: Sequence[Post], looks: Looks) -> dict[str, object]:
    """How many went well, and how long they took in milliseconds."""
    taken = sorted(post.seconds * 1000 for post in posts if post.id)
    errors = Counter([post.error for post in posts if post.error] + looks.errors)
    return {
        "sent": len(posts), "acknowledged": len(taken), "failed": len(posts) - len(taken),
        "p50_ms": _share(taken, 0.5), "p99_ms": _share(taken, 0.99), "max_ms": _share(taken, 1.0),
        "looks": len(looks.seconds) + len(looks.errors), "looks_failed": len(looks.errors),
        "looks_p99_ms": _share(sorted(second * 1000 for second in looks.seconds), 0.99),
        "errors": dict(errors.most_common(5)),
    }  # fmt: skip


def _share(ordered: Sequence[float], share: float) -> float | None:
    """The value below which a share of them lies."""
    return round(ordered[min(int(share * len(ordered)), len(ordered) - 1)], 1) if ordered else None


def audit(home: Home, posts: Sequence[Post]) -> dict[str, object]:
    """What was acknowledged against what is on disk, once the daemon has ended."""
    with Journal.open(home.journal) as journal:
        journal.check()
        kept = journal.interactions(limit=10_000_000)
    texts = {each.id: each.draft.messages[0].content for each in kept}
    times = Counter(texts.values())
    return {
        "lost": sum(texts.get(post.id) != post.text for post in posts if post.id),
        "duplicated": sum(times[post.text] > 1 for post in posts),
    }


def _wait_ready(ada: House) -> None:
    """Until both workers are there, so that no figure is of their start."""
    deadline = time.monotonic() + READY_SECONDS
    while set(ada.client.status()["workers"].values()) != {"ready"}:
        if time.monotonic() > deadline:
            raise Unavailable("the daemon's workers did not start in time")
        time.sleep(0.1)


def _wait_encoded(ada: House) -> int:
    """Until all has become memories, or nothing moves any more; how many interactions are left."""
    left, moved = -1, time.monotonic()
    while time.monotonic() - moved < STUCK_SECONDS:
        now = int(ada.client.status()["counts"]["unencoded"])
        if now != left:
            left, moved = now, time.monotonic()
        if not left:
            break
        time.sleep(0.2)
    return left
