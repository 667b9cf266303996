"""The one protocol that every engine keeps, and the plain values it speaks in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ada_memory.errors import BadModel
from ada_memory.records import Chat, Sample


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to decode. Temperature 0 is greedy; min-p keeps high temperatures coherent (2407.01082).

    A last message that does not fit beside its reply is cut; with `whole` it is refused (BadInput).
    """

    max_tokens: int = 24
    temperature: float = 0.0
    min_p: float = 0.0
    seed: int = 0
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Completion:
    """What the model said. `tokens` counts what was generated, `finished` is false if cut off."""

    text: str
    prompt_tokens: int
    tokens: int
    finished: bool


@dataclass(frozen=True, slots=True)
class TrainPlan:
    """Everything that decides a training run besides its data.

    `learning_rate` rises linearly over `warmup` (a share of all steps), then falls on a cosine to
    zero. `kl_weight` multiplies KL(base ‖ model) on the anchors: the base is the model with its
    adapter switched off. `batch_size` counts samples.
    """

    rank: int = 16
    alpha: int = 32
    learning_rate: float = 4e-4
    warmup: float = 0.1
    epochs: int = 8
    batch_size: int = 32
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    kl_weight: float = 4.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step, as it is watched. Losses are means per trained token, in nats."""

    step: int
    steps: int
    epoch: int
    loss: float
    kl: float
    learning_rate: float
    tokens: int


Watch = Callable[[Step], bool]
"""Called after each step; returning True ends the training there."""


class Engine(Protocol):
    """A loaded model: a Hugging Face folder, with or without a PEFT adapter on it."""

    @property
    def layers(self) -> int:
        """The number of transformer layers."""
        ...

    @property
    def limit(self) -> int:
        """The longest sequence that the model takes, prompt and reply together, in tokens."""
        ...

    def measure(self, chats: Sequence[Chat]) -> list[int]:
        """Tokens of each chat up to where the reply begins, however long it is."""
        ...

    def generate(self, chats: Sequence[Chat], sampling: Sampling) -> list[Completion]:
        """Continue each chat with an assistant's reply, in batches, in the order given."""
        ...

    def score(self, chats: Sequence[Chat], replies: Sequence[str]) -> list[NDArray[np.float32]]:
        """Log-probability (nats) of each token of each reply, end of turn included, given its chat."""
        ...

    def distributions(self, chats: Sequence[Chat]) -> NDArray[np.float32]:
        """Log-probabilities of the first token of the reply: shape (chats, vocabulary)."""
        ...

    def hidden(self, texts: Sequence[str], layer: int) -> NDArray[np.float32]:
        """Mean hidden state of each text after `layer` (0 is the embedding): shape (texts, width)."""
        ...

    def train(
        self,
        samples: Sequence[Sample],
        anchors: Sequence[Sample],
        plan: TrainPlan,
        out: Path,
        watch: Watch,
    ) -> None:
        """Train the adapter that is loaded (or a new one) and save it to `out` in PEFT's format."""
        ...

    def merge(self, out: Path) -> None:
        """Write base + adapter as one Hugging Face folder. The engine itself is used up by it."""
        ...


@dataclass(frozen=True, slots=True)
class Hardware:
    """What an engine may use. `threads` 0 means all cores, `device` and `dtype` may be "auto"."""

    device: str = "auto"
    dtype: str = "auto"
    threads: int = 0


def open_engine(
    name: str, model: Path, adapter: Path | None = None, hardware: Hardware = Hardware()
) -> Engine:
    """Load a model folder, and the adapter on it if one is named.

    Raises:
        BadModel: no such engine, or a folder that it cannot read.
    """
    if name == "peft":
        from ada_memory.engines.peft import PeftEngine

        return PeftEngine(model, adapter, hardware)
    raise BadModel(f"there is no engine called {name!r}", hint='use engine = "peft"')
