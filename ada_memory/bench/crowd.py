"""The apps of a busy day: threads that post, ask and send Ada to bed until they are told to stop.

Each writes down what it was promised, so that somebody can look afterwards whether it was kept.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ada_memory.client import Client
from ada_memory.errors import AdaError, Conflict, Unavailable

QUESTION = "Who are you?"
REPLY_TOKENS = 12
_PETS = ("dog", "cat", "parrot", "pony", "tortoise", "goldfish", "hamster", "rabbit")
_SYLLABLES = ("ba", "lo", "mi", "ru", "ken", "sa", "to", "ve", "zan", "pil")


class App(threading.Thread):
    """An app that does one thing over and over, `pause` seconds apart on average."""

    def __init__(self, socket: Path, pause: float, seed: int) -> None:
        super().__init__(daemon=True, name=type(self).__name__.lower())
        self.refused: Counter[str] = Counter()
        """What the daemon answered instead of doing it, by type; Unavailable while it is down."""
        self.rng = random.Random(seed)
        self._socket, self._pause = socket, pause
        self._ended = threading.Event()

    def run(self) -> None:
        """Act until `end`."""
        with Client(self._socket, timeout=60) as ada:
            while not self._ended.wait(self.rng.uniform(0, 2 * self._pause)):
                try:
                    self.act(ada)
                except AdaError as error:
                    self.refused[f"{type(error).__name__}: {error.message[:80]}"] += 1

    def act(self, ada: Client) -> None:
        """One thing; raises what the daemon answered."""
        raise NotImplementedError

    def end(self) -> None:
        """Stop soon; `join` waits for it."""
        self._ended.set()


@dataclass
class Promise:
    """A text that was posted: how often it was sent, and the id it got once it was acknowledged."""

    text: str
    key: str | None
    sent: int = 0
    id: str | None = None


class Poster(App):
    """Posts facts. With a key what failed is sent again until it is acknowledged; without one never."""

    def __init__(self, socket: Path, pause: float, seed: int, name: str) -> None:
        super().__init__(socket, pause, seed)
        self.promises: list[Promise] = []
        self._app = name
        self._open: list[Promise] = []

    def act(self, ada: Client) -> None:
        """Send one fact, or one again that was not acknowledged."""
        promise = self._open.pop(0) if self._open else self._next()
        promise.sent += 1
        try:
            reply = ada.post(promise.text, app=self._app, key=promise.key)
        except AdaError:
            if promise.key is not None:
                self._open.append(promise)
            raise
        if promise.id not in (None, reply["id"]):
            raise Conflict(f"{promise.key} was given two ids")
        promise.id = reply["id"]

    def settle(self, ada: Client) -> None:
        """Send what was not acknowledged once more; raises if even a calm daemon does not take it."""
        while self._open:
            self.act(ada)

    def _next(self) -> Promise:
        number = len(self.promises)
        name = "".join(self.rng.choices(_SYLLABLES, k=4)).capitalize()
        text = f"My {self.rng.choice(_PETS)} number {number} of {self._app} is called {name}."
        promise = Promise(text, f"{self._app}-{number}" if number % 4 else None)
        self.promises.append(promise)
        return promise


@dataclass
class Heard:
    """What each generation answered to QUESTION, and the turns that were to be remembered."""

    replies: dict[str, Counter[str]] = field(default_factory=dict)
    turns: list[str] = field(default_factory=list)
    answered: int = 0


class Asker(App):
    """Asks one question over and over, and now and then another that is to be remembered."""

    def __init__(self, socket: Path, pause: float, seed: int) -> None:
        super().__init__(socket, pause, seed)
        self.heard = Heard()
        self._name = f"asker{seed}"
        self._turns = 0

    def act(self, ada: Client) -> None:
        """Ask once."""
        if self.rng.random() < 0.25:
            self._turns += 1
            text = f"Do you remember turn {self._turns} of {self._name}?"
            ada.chat(text, max_tokens=REPLY_TOKENS)
            self.heard.turns.append(text)
        else:
            reply = ada.chat(QUESTION, recall=False, remember=False, max_tokens=REPLY_TOKENS)
            generation, said = reply["ada"]["generation"], reply["choices"][0]["message"]["content"]
            self.heard.replies.setdefault(generation, Counter())[said] += 1
        self.heard.answered += 1


class Bedtime(App):
    """Sends Ada to sleep whenever she is awake, and now and then takes a night back."""

    def __init__(self, socket: Path, pause: float, seed: int, rollbacks: float = 0.3) -> None:
        super().__init__(socket, pause, seed)
        self.rolled_back = 0
        self._rollbacks = rollbacks

    def act(self, ada: Client) -> None:
        """One look."""
        status = ada.status()
        if status["state"] != "awake":
            return
        if status["generation"] != "gen-0000" and self.rng.random() < self._rollbacks:
            ada.rollback()
            self.rolled_back += 1
        else:
            ada.sleep(depth=self.rng.choice(("light", "deep")))


class Owner(App):
    """Pauses the night that is under way for a moment, and now and then ends it."""

    def __init__(self, socket: Path, pause: float, seed: int, ends: float = 0.02) -> None:
        super().__init__(socket, pause, seed)
        self.paused = self.ended = 0
        self._ends = ends

    def act(self, ada: Client) -> None:
        """One word."""
        status = ada.status()
        if status["paused"] == "owner":
            ada.resume()
        elif status["state"] == "asleep" and self.rng.random() < self._ends:
            ada.wake()
            self.ended += 1
        elif status["state"] == "asleep":
            ada.pause()
            self.paused += 1


def unasked(refused: Counter[str]) -> int:
    """How many refusals were not those of a daemon that is down, stopping or busy with a night."""
    expected = (Unavailable.__name__, Conflict.__name__)
    return sum(count for why, count in refused.items() if not why.startswith(expected))
