"""An engine without a model: it answers by the rules that a test writes down, and keeps what it was asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ada_memory.engines.engine import Completion, Sampling, TrainPlan, Watch
from ada_memory.records import Chat, Sample

UNKNOWN = "I do not know."
Replies = Mapping[str, str | Sequence[str]]


def certain(_: str) -> float:
    """The belief of an engine that says Yes to everything."""
    return 1.0


class FakeEngine:
    """Replies by the last message of a chat; several replies to one prompt are given in turn.

    `sure` is its probability of Yes for a prompt, `tokens` its log-probabilities of the first token.
    A reply of more words than the sampling allows is cut off, as a model's would be.
    """

    layers = 1
    limit = 1_000

    def __init__(
        self,
        replies: Replies | None = None,
        sure: Callable[[str], float] = certain,
        tokens: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        self._replies = dict(replies or {})
        self._sure = sure
        self._tokens = dict(tokens or {})
        self.asked: list[Chat] = []
        self.scored: list[Chat] = []
        self.samplings: list[Sampling] = []

    @property
    def prompts(self) -> list[str]:
        """The last message of everything that was to be continued."""
        return [chat[-1].content for chat in self.asked]

    def measure(self, chats: Sequence[Chat]) -> list[int]:
        """A token a word."""
        return [sum(len(message.content.split()) for message in chat) for chat in chats]

    def generate(self, chats: Sequence[Chat], sampling: Sampling) -> list[Completion]:
        """Continue each chat by the rules."""
        self.samplings.append(sampling)
        return [self._complete(chat, sampling.max_tokens) for chat in chats]

    def _complete(self, chat: Chat, most: int) -> Completion:
        rule = self._replies.get(chat[-1].content, UNKNOWN)
        said = rule if isinstance(rule, str) else rule[self.prompts.count(chat[-1].content) % len(rule)]
        self.asked.append(chat)
        words = said.split(" ")
        return Completion(" ".join(words[:most]), 1, min(len(words), most), len(words) <= most)

    def score(self, chats: Sequence[Chat], replies: Sequence[str]) -> list[NDArray[np.float32]]:
        """Two tokens a reply, which together are as likely as `sure` says."""
        self.scored += chats
        return [self._score(chat, reply) for chat, reply in zip(chats, replies, strict=True)]

    def _score(self, chat: Chat, reply: str) -> NDArray[np.float32]:
        yes = self._sure(chat[-1].content)
        nats = np.log(max(yes if reply.startswith("Yes") else 1 - yes, 1e-30))
        return np.array([nats / 2, nats / 2], np.float32)

    def distributions(self, chats: Sequence[Chat]) -> NDArray[np.float32]:
        """The rows that the test wrote down."""
        return np.array([self._tokens[chat[-1].content] for chat in chats], np.float32)

    def hidden(self, texts: Sequence[str], layer: int) -> NDArray[np.float32]:
        """Nothing to see."""
        raise NotImplementedError

    def train(
        self, samples: Sequence[Sample], anchors: Sequence[Sample], plan: TrainPlan, out: Path, watch: Watch
    ) -> None:
        """Rules do not learn."""
        raise NotImplementedError

    def merge(self, out: Path) -> None:
        """Rules have no weights."""
        raise NotImplementedError
