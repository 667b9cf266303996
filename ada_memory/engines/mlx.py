"""The engine on MLX and mlx-lm: Apple silicon, CUDA where MLX has it, any CPU.

In: a local Hugging Face folder, plain or quantised by mlx-lm, and a PEFT adapter for it. Out: replies,
scores, states, adapters, merged folders. Nothing is downloaded and no code from a model folder is run. The
loops are in mlx_*.py beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ada_memory.engines import blas, memory
from ada_memory.engines import mlx_load as load
from ada_memory.engines.engine import Completion, Hardware, Sampling, TrainPlan, Watch
from ada_memory.engines.lesson import Lesson
from ada_memory.engines.mlx_body import Body
from ada_memory.engines.mlx_core import mx, on_cpu
from ada_memory.engines.mlx_decode import decode, draws, paddable
from ada_memory.engines.mlx_merge import merge
from ada_memory.engines.mlx_resume import digest_of
from ada_memory.engines.mlx_train import Packed, Trainee, pack, train
from ada_memory.engines.resume import SHARE, Checkpoint
from ada_memory.engines.schedule import grouped
from ada_memory.engines.text import Row, Wording
from ada_memory.errors import AdaError, BadInput
from ada_memory.records import Chat, Sample

COMPILED = 2_000_000
"""Parameters from which a training step is compiled on the CPU too."""

LOGITS = 2**28
"""Most logits held at a time in a forward pass (1 GiB in float32)."""


class MlxEngine:
    """A model in memory, with or without an adapter on it. Keeps the `Engine` protocol.

    Hardware "auto" means the GPU where MLX has one, in bfloat16; on the CPU float32, since MLX has no fast
    product in bfloat16 there. Adapters are float32 always. The device holds for the whole process.
    """

    saving = SHARE
    """Most of the time of a training that may go into checkpoints."""

    most = 0
    """Tokens that a training runs at a time; 0: as many as memory holds."""

    def __init__(self, model: Path, adapter: Path | None = None, hardware: Hardware = Hardware()) -> None:
        """Load the folders.

        Raises:
            BadModel: a folder is missing, damaged, or does not fit the other.
        """
        self._halvings = hardware.halvings
        blas.set_threads(hardware.threads)
        loaded = load.load_model(model, hardware)
        self._folder, self._config, self.parameters = model, loaded.config, loaded.parameters
        self._text: dict[str, Any] = {**loaded.config, **(loaded.config.get("text_config") or {})}
        stops = loaded.config.get("eos_token_id") or []
        self._wording = Wording(loaded.tokenizer, [stops] if isinstance(stops, int) else stops, self._limit())
        self._adapter = load.load_adapter(loaded.model, adapter) if adapter is not None else None
        self._body: Body | None = Body(loaded.model)

    @property
    def layers(self) -> int:
        """The number of transformer layers."""
        return int(self._text["num_hidden_layers"])

    @property
    def limit(self) -> int:
        """The longest sequence that the model takes, prompt and reply together, in tokens."""
        return self._wording.limit

    def measure(self, chats: Sequence[Chat]) -> list[int]:
        """Tokens of each chat up to where the reply begins, however long it is.

        Raises:
            BadInput: an empty chat, or one that the model's template refuses.
        """
        return self._wording.measure(chats)

    def generate(self, chats: Sequence[Chat], sampling: Sampling) -> list[Completion]:
        """Continue each chat with an assistant's reply, in the order given.

        What a chat gets does not depend on the others: greedy replies are those it would get alone, and drawn
        ones depend on the seed and the chat's place in the list.

        Raises:
            BadInput: an empty chat, one that the model's template refuses, or one too long to be read whole.
        """
        body = self._ready()
        prompts = self._wording.prompts(chats, sampling.max_tokens, whole=sampling.whole)
        uniform = draws(len(chats), sampling)
        done: dict[int, Completion] = {}
        for group in self._batches(prompts, sampling.max_tokens):
            replies = decode(
                body,
                [prompts[i] for i in group],
                None if uniform is None else uniform[group],
                sampling,
                self._wording.stops,
            )
            for i, ids in zip(group, replies, strict=True):
                finished = bool(ids) and ids[-1] in self._wording.stops
                done[i] = Completion(self._wording.read(ids), len(prompts[i]), len(ids), finished)
        return [done[i] for i in range(len(chats))]

    def score(self, chats: Sequence[Chat], replies: Sequence[str]) -> list[NDArray[np.float32]]:
        """Log-probability (nats) of each token of each reply, end of turn included, given its chat."""
        done: dict[int, NDArray[np.float32]] = {}
        for group, logs, packed in self._forward(self._wording.rows(chats, replies)):
            picked = np.array(mx.take_along_axis(logs, packed.token[:, None], -1)[:, 0])
            done.update(zip(group, np.split(picked, np.cumsum(packed.sizes)[:-1]), strict=True))
        return [done[i] for i in range(len(chats))]

    def distributions(self, chats: Sequence[Chat]) -> NDArray[np.float32]:
        """Log-probabilities of the first token of the reply: shape (chats, vocabulary)."""
        prompts = self._wording.prompts(chats, 1)
        out = np.empty((len(chats), int(self._text["vocab_size"])), np.float32)
        for group, logs, _ in self._forward([Row(prompt, [self._wording.pad]) for prompt in prompts]):
            out[group] = np.array(logs)
        return out

    def hidden(self, texts: Sequence[str], layer: int) -> NDArray[np.float32]:
        """Mean hidden state of each text after `layer` (0 is the embedding): shape (texts, width).

        Raises:
            BadInput: the model has no such layer.
        """
        if not 0 <= layer <= self.layers:
            raise BadInput(f"layer {layer} does not exist: the model has {self.layers}")
        body = self._ready()
        rows = [Row(ids, []) for ids in self._wording.texts(texts)]
        out = np.empty((len(texts), int(self._text["hidden_size"])), np.float32)
        for group in grouped([len(row) for row in rows], self._tokens()):
            states = body.state(pack([rows[i] for i in group], self._wording.pad).ids, layer)
            means = [states[at, : len(rows[i])].astype(mx.float32).mean(0) for at, i in enumerate(group)]
            out[group] = np.array(mx.stack(means))
        return out

    def train(
        self, samples: Sequence[Sample], anchors: Sequence[Sample], plan: TrainPlan, out: Path, watch: Watch
    ) -> None:
        """Train the adapter that is loaded (its rank and alpha stay) or a new one; save it to `out`.

        Only the last message of a sample carries loss, times its weight, unless the plan says otherwise. Same
        data, plan and thread count give the same bytes. `watch` may call `generate` on this engine.

        Raises:
            BadInput: no samples, or one that does not end with the assistant.
            AdaError: the loss became NaN or infinite, or there is too little memory for a single row; nothing
                is saved.
        """
        lesson = Lesson.of(self._wording, samples, anchors, plan)
        body = self._ready()
        if self._adapter is None:
            load.new_adapter(body.model, plan)
            self._adapter = load.adapter_config(body.model, plan)
        load.set_dropout(body.model, plan.dropout)
        trainee = self._trainee(body, lesson, plan)
        digest = digest_of(lesson, plan, body.model)
        checkpoint = Checkpoint.of(out, digest, self.saving)
        try:
            train(trainee, lesson, plan, watch, checkpoint)
        finally:
            body.recompute = False
            body.model.eval()
            mx.clear_cache()
        load.save_adapter(body.model, self._adapter, out)
        checkpoint.remove()

    def merge(self, out: Path, dtype: str = "auto") -> None:
        """Write base + adapter as one Hugging Face folder. The engine itself is used up by it.

        "auto" writes float32 for models below 200M parameters, bfloat16 above: see the engine on peft. A base
        in 4 bits is unpacked first and the outcome stays unpacked: packed again, it would lose the adapter.
        """
        exact = dtype == "float32" or (dtype == "auto" and self.parameters < memory.SMALL)
        body = self._ready()
        self._body = None
        merge(body.model, self._folder, out, exact=exact)

    def _ready(self) -> Body:
        if self._body is None:
            raise AdaError("this engine was merged and is used up", hint="open the merged folder")
        return self._body

    def _limit(self) -> int:
        limit = int(self._text.get("max_position_embeddings") or 4096)
        # mlx-lm lets all of Gemma 2's layers see everything: true up to the length of its window only
        narrow = self._text["model_type"] == "gemma2"
        return min(limit, int(self._text["sliding_window"])) if narrow else limit

    def _trainee(self, body: Body, lesson: Lesson, plan: TrainPlan) -> Trainee:
        """How this model is trained here: as many tokens at a time as memory holds."""
        run = memory.fit(
            self._config, plan, memory.free_memory(), parameters=self.parameters,
            dtype="float32" if on_cpu() else "bfloat16", loaded=True,
        )  # fmt: skip
        body.recompute = run.checkpointing
        # on the CPU MLX has g++ write the kernels, which takes half a minute once: not for toys
        compiled = not on_cpu() or self.parameters >= COMPILED
        tokens = lesson.halved(self.most or run.tokens, plan, self._halvings)
        return Trainee(body, self._wording.pad, tokens, compiled)

    def _forward(self, rows: Sequence[Row]) -> Iterator[tuple[list[int], Any, Packed]]:
        """Log-probabilities over the vocabulary for the reply tokens, group by group of like length."""
        body = self._ready()
        for group in grouped([len(row) for row in rows], self._tokens()):
            packed = pack([rows[i] for i in group], self._wording.pad)
            logits = body.logits(packed.ids, packed.where)
            yield group, logits - mx.logsumexp(logits, -1, keepdims=True), packed

    def _batches(self, prompts: Sequence[list[int]], more: int) -> Iterator[list[int]]:
        """Prompts that are decoded together; of one length where the model cannot have them padded."""
        shared = paddable(self._ready().model)
        for group in grouped([len(prompt) + more for prompt in prompts], self._tokens(decoding=True)):
            if shared:
                yield group
            else:
                for _, same in groupby(group, key=lambda i: len(prompts[i])):
                    yield list(same)

    def _tokens(self, *, decoding: bool = False) -> int:
        """Tokens that are run at a time."""
        gpu = not on_cpu()
        if decoding:
            return (65_536 if gpu else 8_192) >> self._halvings
        most = (32_768 if gpu else 8_192) if self.parameters < memory.SMALL else (4_096 if gpu else 2_048)
        return min(most, LOGITS // int(self._text["vocab_size"])) >> self._halvings
