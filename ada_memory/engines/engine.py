"""The one protocol that every engine keeps, and the plain values it speaks in."""

from __future__ import annotations

import importlib.util
import json
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ada_memory.errors import BadModel
from ada_memory.records import Chat, Sample

if TYPE_CHECKING:  # who only names an engine need not load what reads settings
    from ada_memory.settings import ModelSettings


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
    zero; with `decay` off it stays at its peak after the warm-up. `drift_weight` multiplies
    the drift on the anchors: |own - base|² / |base|² of the states that the output layer reads, a mean over
    reply tokens (Less-forgetting learning, 1607.00122); the base is the model with its adapter switched off.
    A token that has drifted by no more than its anchor's `slack` is not pulled back. `batch_size` counts
    samples, `anchor_batch` the anchors that each step takes besides.

    Once the watch says that it is enough, the rest of the rate's curve is walked in `landing` epochs, so that
    no run ends at a high rate; with 0 it ends there. Rows that it names are gone over once more after all
    others, on a small curve of the same shape whose peak is `mend_rate`.

    `noise` is added to the embeddings of rows with a loss, never to anchors: normal, its deviation a share of
    each token's own size (root mean square), drawn anew every step. What is learned then hangs less on the
    very words it was asked in (NEFTune, 2310.05914, has it uniform and of one size).

    A new adapter goes on the linear layers whose names end in one of `targets` ("q_proj", "v_proj"; none
    named: on all but the output), in the last `last_layers` transformer layers (0: in all). `dropout` is
    the share of a LoRA's input that is dropped in training. With `mask_prompt` off the prompt's tokens
    carry loss as the reply's do; anchors are compared on their replies all the same. The last five are
    there so that other recipes can be measured beside ours.
    """

    rank: int = 16
    alpha: int = 32
    learning_rate: float = 4e-4
    warmup: float = 0.1
    epochs: int = 8
    batch_size: int = 32
    anchor_batch: int = 16
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    drift_weight: float = 8.0
    landing: int = 0
    mend_rate: float = 0.0
    noise: float = 0.0
    seed: int = 0
    targets: tuple[str, ...] = ()
    last_layers: int = 0
    dropout: float = 0.0
    decay: bool = True
    mask_prompt: bool = True


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step, as it is watched. The loss is a mean a token, in nats; for drift see TrainPlan.

    Epochs above those of the plan are rows that are gone over once more: one each time.
    """

    step: int
    steps: int
    epoch: int
    loss: float
    drift: float
    learning_rate: float
    tokens: int
    ends_epoch: bool = False


UNFINISHED = "unfinished"
"""The folder beside a training's `out` that holds what it needs to go on after it was killed."""

Watch = Callable[[Step], bool | Sequence[int]]
"""Called after each step. True says that it is enough: the run lands (see TrainPlan) or, by default, ends.
Numbers of samples say that these are to be gone over once more."""


class Speaker(Protocol):
    """What can be spoken with: all that dreaming needs of a model."""

    def generate(self, chats: Sequence[Chat], sampling: Sampling) -> list[Completion]:
        """Continue each chat with an assistant's reply, in batches, in the order given."""
        ...

    def score(self, chats: Sequence[Chat], replies: Sequence[str]) -> list[NDArray[np.float32]]:
        """Log-probability (nats) of each token of each reply, end of turn included, given its chat."""
        ...


class Engine(Speaker, Protocol):
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
        """Train the adapter that is loaded (or a new one) and save it to `out` in PEFT's format.

        A run that was killed goes on where it last saved itself (in the folder `UNFINISHED` beside `out`)
        when the same is asked for again, and ends with the same weights; steps that are done are not
        watched again. After the end nothing of it stays there.
        """
        ...

    def merge(self, out: Path) -> None:
        """Write base + adapter as one Hugging Face folder. The engine itself is used up by it."""
        ...


@dataclass(frozen=True, slots=True)
class Hardware:
    """What an engine may use. `threads` 0 means all cores, `device` and `dtype` may be "auto".

    `dtype` is that of the weights in memory: "auto", "float32", "bfloat16", or "nf4", which packs the linear
    layers of a base to 4 bits (peft alone, with bitsandbytes). `halvings` says how often the number of tokens
    that are run at a time is halved: where memory is short, systems kill a process without a word.
    """

    device: str = "auto"
    dtype: str = "auto"
    threads: int = 0
    halvings: int = 0

    @classmethod
    def of(cls, model: ModelSettings, halvings: int = 0) -> Hardware:
        """What the settings of a model say."""
        return cls(model.device, model.dtype, model.threads, halvings)


def open_engine(
    name: str, model: Path, adapter: Path | None = None, hardware: Hardware = Hardware()
) -> Engine:
    """Load a model folder, and the adapter on it if one is named.

    Raises:
        BadModel: no such engine, or a folder that it cannot read.
    """
    name = named_engine(name, model)
    if name == "peft":
        from ada_memory.engines.peft import PeftEngine

        return PeftEngine(model, adapter, hardware)
    if name == "mlx":
        if not has_mlx():
            hint = "pip install 'ada-memory[mlx]', or set model.engine to auto"
            raise BadModel("MLX is not installed", hint=hint)
        from ada_memory.engines.mlx import MlxEngine

        return MlxEngine(model, adapter, hardware)
    raise BadModel(f"there is no engine called {name!r}", hint="use engine = auto, peft or mlx")


def named_engine(name: str, model: Path) -> str:
    """The engine that a setting names for this model, "auto" by what it stands for."""
    return choose_engine(model) if name == "auto" else name


def choose_engine(model: Path) -> Literal["peft", "mlx"]:
    """What "auto" stands for: mlx on Apple silicon and for folders that mlx-lm quantised, else peft."""
    apple = sys.platform == "darwin" and platform.machine() == "arm64"
    if has_mlx() and (apple or quantised(model)):
        return "mlx"
    return "peft"


def has_mlx() -> bool:
    """Whether MLX and mlx-lm are installed, without importing them."""
    return all(importlib.util.find_spec(name) is not None for name in ("mlx", "mlx_lm"))


def quantised(model: Path) -> bool:
    """Whether mlx-lm packed the weights of this folder into a few bits."""
    try:
        return "quantization" in json.loads((model / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
