"""The engine on torch, transformers and peft: CPU and CUDA.

In: a local Hugging Face folder, and a PEFT adapter for it. Out: replies, scores, states, adapters, merged
folders. Nothing is downloaded and no code from a model folder is run. The loops are in peft_*.py beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ada_memory.engines import memory
from ada_memory.engines import peft_load as load
from ada_memory.engines.engine import Completion, Hardware, Sampling, TrainPlan, Watch
from ada_memory.engines.lesson import Lesson
from ada_memory.engines.peft_decode import decode, draws
from ada_memory.engines.peft_resume import digest_of
from ada_memory.engines.peft_rows import Packed, pack, reply_logits
from ada_memory.engines.peft_step import Trainee, way
from ada_memory.engines.peft_train import train
from ada_memory.engines.resume import SHARE, Checkpoint
from ada_memory.engines.schedule import grouped
from ada_memory.engines.text import Row, Wording
from ada_memory.errors import AdaError, BadInput
from ada_memory.records import Chat, Sample

LOGITS = 2**28
"""Most logits held at a time in a forward pass (1 GiB in float32)."""


class PeftEngine:
    """A model in memory, with or without an adapter on it. Keeps the `Engine` protocol.

    Hardware "auto" means CUDA where there is some; bfloat16 on it; on the CPU float32 for models below 200M
    parameters (trained with products in bfloat16 where the CPU has it in hardware), and for larger ones where
    it has not and there is memory enough, else bfloat16. With "nf4" the base lies packed in 4 bits, and an
    adapter in float32 is trained over it (2305.14314). `saving` is the share of the time that a training may
    spend on saving itself, `most` the tokens that it runs at a time (0: as many as memory holds).
    """

    saving = SHARE
    most = 0

    def __init__(self, model: Path, adapter: Path | None = None, hardware: Hardware = Hardware()) -> None:
        """Load the folders.

        Raises:
            BadModel: a folder is missing, damaged, or does not fit the other.
        """
        self._halvings = hardware.halvings
        if hardware.threads:
            torch.set_num_threads(hardware.threads)
        self._model, tokenizer, self.parameters = load.load_model(model, hardware)
        self._config = self._model.config.get_text_config()
        stops = self._model.generation_config.eos_token_id or []
        limit = int(getattr(self._config, "max_position_embeddings", None) or 4096)
        self._wording = Wording(tokenizer, [stops] if isinstance(stops, int) else stops, limit)
        self._tokenizer = tokenizer
        mixed = hardware.dtype == "auto" and self._model.device.type == "cpu" and memory.fast_bfloat16()
        self._mixed = mixed or self._model.dtype is torch.bfloat16
        self._adapted = adapter is not None
        if adapter is not None:
            self._model = load.load_adapter(self._model, adapter)

    @property
    def layers(self) -> int:
        """The number of transformer layers."""
        return int(self._config.num_hidden_layers)

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
        model = self._ready().eval()
        prompts = self._wording.prompts(chats, sampling.max_tokens, whole=sampling.whole)
        uniform = draws(len(chats), sampling)
        done: dict[int, Completion] = {}
        for group in grouped([len(p) + sampling.max_tokens for p in prompts], self._tokens(decoding=True)):
            replies = decode(
                model,
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
            picked = torch.split(logs.gather(1, packed.token[:, None])[:, 0].cpu(), packed.sizes)
            done.update(zip(group, (part.numpy() for part in picked), strict=True))
        return [done[i] for i in range(len(chats))]

    def distributions(self, chats: Sequence[Chat]) -> NDArray[np.float32]:
        """Log-probabilities of the first token of the reply: shape (chats, vocabulary)."""
        prompts = self._wording.prompts(chats, 1)
        out = np.empty((len(chats), self._config.vocab_size), np.float32)
        for group, logs, _ in self._forward([Row(prompt, [self._wording.pad]) for prompt in prompts]):
            out[group] = logs.cpu().numpy()
        return out

    @torch.no_grad()
    def hidden(self, texts: Sequence[str], layer: int) -> NDArray[np.float32]:
        """Mean hidden state of each text after `layer` (0 is the embedding): shape (texts, width).

        Raises:
            BadInput: the model has no such layer.
        """
        if not 0 <= layer <= self.layers:
            raise BadInput(f"layer {layer} does not exist: the model has {self.layers}")
        model = self._ready().eval()
        rows = [Row(ids, []) for ids in self._wording.texts(texts)]
        out = np.empty((len(texts), self._config.hidden_size), np.float32)
        for group in grouped([len(row) for row in rows], self._tokens()):
            ids = pack([rows[i] for i in group], self._wording.pad, model.device).ids
            states = model(ids, use_cache=False, output_hidden_states=True, logits_to_keep=1).hidden_states
            for at, i in enumerate(group):
                out[i] = states[layer][at, : len(rows[i])].float().mean(0).cpu().numpy()
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
        model = self._ready()
        if not self._adapted:
            self._model = model = load.new_adapter(model, plan)
            self._adapted = True
        load.set_dropout(model, plan.dropout)
        digest = digest_of(lesson, plan, model, load.adapter_state(model))
        checkpoint = Checkpoint.of(out, digest, self.saving)
        trainee = self._trainee(lesson, plan)
        try:
            train(trainee, lesson, plan, watch, checkpoint)
        finally:
            trainee.recompute_layers(False)
            model.eval()
        load.save_adapter(model, out)
        checkpoint.remove()

    def merge(self, out: Path, dtype: str = "auto") -> None:
        """Write base + adapter as one Hugging Face folder. The engine itself is used up by it.

        "auto" writes float32 for models below 200M parameters, even over a bfloat16 base: bfloat16 keeps 8
        bits, and much of an adapter's change is smaller than the last of them, so rounding would undo part of
        the night. Above that size the file would double: bfloat16, unless `dtype` is "float32". A packed base
        is unpacked first: the adapter was trained over what it holds, not over the folder it came from.
        """
        model = self._ready()
        small = self.parameters < memory.SMALL
        exact = dtype == "float32" or (dtype == "auto" and small)
        if load.packed_layers(model):
            model = load.unpacked(model, torch.float32 if exact else torch.bfloat16)
        if exact:
            model = model.float()
        if self._adapted:
            with load.quiet():
                model = model.merge_and_unload(safe_merge=True)
        self._model = None
        load.save_model(model.to(torch.float32 if exact else torch.bfloat16), self._tokenizer, out)

    def _ready(self) -> Any:
        if self._model is None:
            raise AdaError("this engine was merged and is used up", hint="open the merged folder")
        return self._model

    def _trainee(self, lesson: Lesson, plan: TrainPlan) -> Trainee:
        """How this model is trained here: the quickest way, as many tokens at a time as memory holds."""
        model, device = self._model, self._model.device.type
        free = torch.cuda.mem_get_info(self._model.device)[0] if device == "cuda" else memory.free_memory()
        run = memory.fit(
            self._config.to_dict(), plan, free, parameters=self.parameters, device=device, loaded=True,
            dtype="bfloat16" if self._mixed else "float32",
        )  # fmt: skip
        probe = sorted((*lesson.rows, *lesson.anchors), key=len)[:3]
        tokens = lesson.halved(self.most or run.tokens, plan, self._halvings)
        trainee = Trainee(model, way(model, self._wording.pad, self._mixed, probe), tokens)
        if run.checkpointing:
            trainee.recompute_layers()
        return trainee

    def _forward(self, rows: Sequence[Row]) -> Iterator[tuple[list[int], torch.Tensor, Packed]]:
        """Log-probabilities over the vocabulary for the reply tokens, group by group of like length."""
        model = self._ready().eval()
        for group in grouped([len(row) for row in rows], self._tokens()):
            packed = pack([rows[i] for i in group], self._wording.pad, model.device)
            with torch.no_grad():
                logs = torch.log_softmax(reply_logits(model, packed, mixed=False), -1)
            yield group, logs, packed

    def _tokens(self, *, decoding: bool = False) -> int:
        """Tokens that are run at a time."""
        gpu = self._ready().device.type == "cuda"
        if decoding and gpu:
            free = torch.cuda.mem_get_info(self._model.device)[0]
            return memory.decoded(self._config.to_dict(), 65_536, free) >> self._halvings
        if decoding:
            return 8_192 >> self._halvings
        most = (32_768 if gpu else 8_192) if self.parameters < memory.SMALL else (4_096 if gpu else 2_048)
        return min(most, LOGITS // int(self._config.vocab_size)) >> self._halvings
