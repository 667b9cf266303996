"""One step's gradient: rows with a loss, anchors held to the base, in as many passes as memory asks for.

In: a model with an adapter, rows, weights. Out: loss and drift; the gradient is left on the adapter. There
are two ways through the model: `Quick`, over layers of our own and rows without padding, and `Plain`, as
transformers and peft do it, for models that the first does not reproduce.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from ada_memory.engines.engine import TrainPlan
from ada_memory.engines.memory import short_of_memory
from ada_memory.engines.peft_attention import Layout
from ada_memory.engines.peft_head import drift, likelihood
from ada_memory.engines.peft_lean import Lean
from ada_memory.engines.peft_linear import GRAIN, Layer
from ada_memory.engines.peft_rows import Packed, chain, pack, reply_logits, reply_outputs
from ada_memory.engines.remembered import Remembered
from ada_memory.engines.text import Row

AGREE = 0.1
"""Logits of our layers may differ by this share of the logits' spread from the model's own: rounding does
not come near it, a layer that works otherwise goes far beyond."""
UNFIT = (NotImplementedError, TypeError, ValueError, KeyError, AttributeError, RuntimeError)


@dataclass(frozen=True, slots=True)
class Part:
    """Rows that go through the model together: those with a loss first, then anchors.

    `weights` multiply each learning row's sum of nll, `pull` each anchor's drift. `anchors` are the
    anchors' numbers, by which the base's view of them is kept. `noise` blurs the rows with a loss.
    """

    rows: Sequence[Row]
    weights: Sequence[float]
    anchors: Sequence[int]
    pull: float
    noise: float = 0.0


class Way(Protocol):
    """A way through the model, there and back."""

    padded: bool

    def foresee(self, anchors: Sequence[tuple[int, Row]], tokens: int) -> None:
        """Work out the base's view of anchors that are to come, as far as that is cheaper at once."""
        ...

    def learn(self, part: Part) -> tuple[torch.Tensor, torch.Tensor]:
        """Add the part's gradient to the adapter's; gives sum(weight * nll) and pull * drift."""
        ...


@dataclass(slots=True)
class Plain:
    """The model's own forward pass, rows padded, products in bfloat16 by autocast if `mixed`."""

    model: Any
    pad: int
    mixed: bool
    padded: bool = True
    teacher: Remembered[torch.Tensor] = field(default_factory=Remembered)

    def foresee(self, anchors: Sequence[tuple[int, Row]], tokens: int) -> None:
        """Nothing: padding would take back what is won."""

    def learn(self, part: Part) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Way`."""
        packed = pack(part.rows, self.pad, self.model.device)
        base = self._base(part)
        with blurred(self.model, part.noise, slice(len(part.weights))):
            logits, states = reply_outputs(self.model, packed, self.mixed)
        learning = len(logits) - len(base)
        nll = F.cross_entropy(logits[:learning], packed.token[:learning], reduction="none")
        loss = (nll * _spread(part, packed, learning)).sum()
        apart, of_states = drift(states[learning:].detach(), base, _slack(part, base))
        change = torch.cat([torch.zeros_like(states[:learning]), of_states * part.pull])
        torch.autograd.backward([loss, states], [None, change])
        return loss.detach(), apart * part.pull

    @torch.no_grad()
    def _base(self, part: Part) -> torch.Tensor:
        """The base's last states on the part's anchors; worked out once an anchor. Shape (N, width)."""
        rows, known = part.rows[len(part.weights) :], self.teacher
        if not rows:
            return torch.empty(0, self.model.config.get_text_config().hidden_size, device=self.model.device)
        if not all(anchor in known for anchor in part.anchors):
            packed = pack(rows, self.pad, self.model.device)
            with self.model.disable_adapter():
                _, base = reply_outputs(self.model, packed, self.mixed)
            known.remember(zip(part.anchors, torch.split(base, packed.sizes), strict=True), part.anchors)
        return torch.cat([known[anchor] for anchor in part.anchors])


class Quick:
    """Our layers; rows one after another unless the model mixes tokens outside of attention."""

    def __init__(self, model: Any, pad: int, dtype: torch.dtype) -> None:
        self._model, self._base, self._pad = model, model.get_base_model(), pad
        self._lean = Lean(self._base, dtype)
        self._mixed = dtype is torch.bfloat16 and not self._lean.whole
        output = self._base.get_output_embeddings()
        bias = getattr(output, "bias", None)
        self._head = Layer(
            output.weight.detach().to(dtype), None if bias is None else bias.detach().to(dtype)
        )
        self._teacher: Remembered[torch.Tensor] = Remembered()
        self.padded = _mixes_otherwise(self._base)

    def foresee(self, anchors: Sequence[tuple[int, Row]], tokens: int) -> None:
        """See `Way`: those of like length together, `tokens` at a time."""
        new = [(number, row) for number, row in anchors if number not in self._teacher]
        new.sort(key=lambda anchor: len(anchor[1]))
        for start, stop in _cut([len(row) for _, row in new], tokens, self.padded):
            numbers, rows = zip(*new[start:stop], strict=True)
            self._teach(Part(rows, (), numbers, 0.0))

    def learn(self, part: Part) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Way`."""
        base = self._teach(part)
        rows = part.rows[: len(part.weights)]
        learning = slice(len(rows)) if self.padded else (slice(None), slice(sum(map(len, rows))))
        with self._lean(), blurred(self._base, part.noise, learning):
            hidden, packed, place = self._states(part.rows)
            states = hidden.detach()[place]
            told = len(states) - len(base)
            loss, of_loss = likelihood(
                states[:told], self._head, packed.token[:told], _spread(part, packed, told)
            )
            apart, of_apart = drift(states[told:], base, _slack(part, base))
            change = torch.cat([of_loss, of_apart.mul_(part.pull)])
            above = torch.zeros_like(hidden).index_copy_(0, place, change)
            hidden.backward(above)  # type: ignore[no-untyped-call]
        return loss, apart * part.pull

    @torch.no_grad()
    def logits(self, rows: Sequence[Row]) -> torch.Tensor:
        """Logits that predict each reply token: float32, shape (N, vocabulary)."""
        with self._lean():
            hidden, _, place = self._states(rows)
            head = self._head
        return F.linear(hidden[place].to(head.weight.dtype), head.weight, head.bias).float()

    def _states(self, rows: Sequence[Row]) -> tuple[torch.Tensor, Packed, torch.Tensor]:
        """Last hidden states (tokens, width), and where among them those that predict replies are."""
        device = self._model.device
        # layers that are not ours expect what autocast gives
        with torch.autocast(device.type, torch.bfloat16, enabled=self._mixed):
            decoder = self._base.get_decoder()
            if self.padded:
                packed = pack(rows, self._pad, device)
                place, more = packed.row * packed.ids.shape[1] + packed.place, {}
            else:
                packed, layout = self._chained(rows)
                place, more = packed.place, {"position_ids": layout.positions[None], "rows": layout}
            self._lean.read = place
            out = decoder(input_ids=packed.ids, use_cache=False, **more)
        return out.last_hidden_state.flatten(0, 1), packed, place

    def _chained(self, rows: Sequence[Row]) -> tuple[Packed, Layout]:
        """The rows one after another, filled up to a whole number of grains by a row that nobody reads."""
        filler = Row([self._pad] * (-sum(map(len, rows)) % GRAIN), [])
        filled = [*rows, filler] if len(filler) else rows
        device = self._model.device
        return chain(filled, device), Layout([len(row) for row in filled], device)

    @torch.no_grad()
    def _teach(self, part: Part) -> torch.Tensor:
        """The base's last states on the part's anchors; worked out once an anchor. Shape (N, width)."""
        rows, known = part.rows[len(part.weights) :], self._teacher
        new = [at for at, anchor in enumerate(part.anchors) if anchor not in known]
        if new:
            with self._model.disable_adapter(), self._lean():
                hidden, packed, place = self._states([rows[at] for at in new])
            states = torch.split(hidden[place], packed.sizes[: len(new)])
            made = ((part.anchors[at], state.clone()) for at, state in zip(new, states, strict=True))
            known.remember(made, part.anchors)
        if not rows:
            return torch.empty(0, self._head.weight.shape[1], device=self._model.device)
        return torch.cat([known[anchor] for anchor in part.anchors])


@dataclass(slots=True)
class Trainee:
    """The model that is trained and how: `tokens` go through it at a time, by `way`."""

    model: Any
    way: Way
    tokens: int
    recompute: bool = False

    def recompute_layers(self, on: bool = True) -> None:
        """Keep only what enters a layer, and compute the rest again when it is needed (1604.06174)."""
        again: Any = partial(checkpoint, use_reentrant=False)
        for layer in self.model.modules():
            if isinstance(layer, GradientCheckpointingLayer):
                layer.gradient_checkpointing = on
                layer._gradient_checkpointing_func = again
        self.recompute = on


def way(model: Any, pad: int, mixed: bool, probe: Sequence[Row]) -> Way:
    """The quickest way that gives the model's own logits on the probe's rows."""
    plain = Plain(model, pad, mixed)
    dtype = torch.bfloat16 if mixed else model.dtype
    try:
        quick = Quick(model, pad, dtype)
        ours = quick.logits(probe)
    except UNFIT as error:
        if short_of_memory(error):  # no reason to go the way that takes more of it
            raise
        return plain
    with torch.no_grad():
        theirs = torch.cat([reply_logits(model, pack([row], pad, model.device), mixed) for row in probe])
    fits = bool((ours - theirs).abs().max() <= AGREE * theirs.std())
    return quick if fits else plain


def parts(
    rows: Sequence[Row],
    weights: Sequence[float],
    anchors: Sequence[tuple[int, Row]],
    plan: TrainPlan,
    tokens: int,
    *,
    padded: bool,
) -> Iterator[Part]:
    """One step in parts of at most `tokens` tokens (or one row); loss and drift are means over all."""
    bearing = max(sum(len(row.reply) for row, weight in zip(rows, weights, strict=True) if weight > 0), 1)
    count = sum(len(row.reply) for _, row in anchors)
    everyone = [*rows, *(row for _, row in anchors)]
    for start, stop in _cut([len(row) for row in everyone], tokens, padded):
        learning = slice(min(start, len(rows)), min(stop, len(rows)))
        held = anchors[max(start - len(rows), 0) : max(stop - len(rows), 0)]
        yield Part(
            everyone[start:stop],
            [weight / bearing for weight in weights[learning]],
            [number for number, _ in held],
            plan.drift_weight / count if held else 0.0,
            plan.noise,
        )


@contextmanager
def blurred(model: Any, noise: float, learning: Any) -> Iterator[None]:
    """While it lasts, the model's embeddings of what is `learning` (an index of rows, tokens) have noise."""

    def blur(_module: Any, _given: Any, out: torch.Tensor) -> torch.Tensor:
        size = out[learning].square().mean(-1, keepdim=True).sqrt()
        noisy = out.clone()
        noisy[learning] += noise * size * torch.randn_like(out[learning])
        return noisy

    hook = model.get_input_embeddings().register_forward_hook(blur) if noise else None
    try:
        yield
    finally:
        if hook:
            hook.remove()


def _cut(lengths: Sequence[int], tokens: int, padded: bool) -> Iterator[tuple[int, int]]:
    """Neighbours that together stay within `tokens`, from and up to."""
    start = taken = longest = 0
    for at, length in enumerate(lengths):
        longest = max(longest, length)
        taken = (at - start + 1) * longest if padded else taken + length
        if taken > tokens and at > start:
            yield start, at
            start, taken, longest = at, length, length
    if lengths:
        yield start, len(lengths)


def _spread(part: Part, packed: Packed, learning: int) -> torch.Tensor:
    """The weight of each reply token that carries loss."""
    weights = torch.tensor([*part.weights, 0.0], device=packed.row.device)
    return weights[packed.row[:learning]]


def _slack(part: Part, base: torch.Tensor) -> torch.Tensor:
    """How far each reply token of the anchors may drift."""
    anchors = part.rows[len(part.weights) :]
    return torch.tensor([row.slack for row in anchors for _ in row.reply], device=base.device)


def _mixes_otherwise(model: Any) -> bool:
    """Whether tokens meet outside of attention too (LFM2's convolutions): such rows must lie apart."""
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
    convolves = any("conv" in type(module).__name__.lower() for module in model.get_decoder().modules())
    return convolves or bool(kinds - {"full_attention", "sliding_attention"})
