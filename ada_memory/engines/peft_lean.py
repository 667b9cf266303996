"""A model whose forward pass is as training needs it: nothing cast twice, nothing kept twice, no padding.

In: a transformers model with a LoRA adapter. Out: the same model, for the length of a `with`, whose linear
layers, norms and attention are those of peft_linear and peft_attention. What it gives is compared with the
model's own before it is relied on: see `peft_step.way`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.lora import LoraLayer
from torch import nn
from torch.nn import functional as F
from transformers import AttentionInterface

from ada_memory.engines.peft_attention import attend
from ada_memory.engines.peft_linear import GRAIN, Adapted, Layer, Normed

SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"), ("w1", "w3"))
"""Layers of one block that read the same input."""
GATES = SIBLINGS[1:]
"""Of these, those whose output meets nothing but one another's: it may stay in the type of the products."""
BLOCKS = ("mlp", "feed_forward")
"""What a layer's block is called in which tokens do not meet."""
ATTENTION = "ada_rows"
Forward = Callable[[torch.Tensor], torch.Tensor]


class Lean:
    """The layers of a model, made ready once for a training run. Products are made in `dtype`.

    `whole` is false if a layer with an adapter stays as it is (a quantised one, or one with dropout):
    then the model must run under autocast. `read`, set before the model is run, says which of the tokens
    somebody reads, as places in the flat ids: the last layer gives zeros at the others where it can.
    """

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        AttentionInterface.register(ATTENTION, attend)
        self._config = model.config.get_text_config()
        self._dtype = dtype
        self._stream = model.dtype
        self._forwards: list[tuple[nn.Module, Forward]] = []
        self._families: list[_Family] = []
        self.whole = True
        self.read: torch.Tensor | None = None
        covered: set[nn.Module] = set()
        for module in model.get_decoder().modules():
            if module in covered:
                continue
            if isinstance(module, LoraLinear) and _plain(module):
                covered.update(module.modules())
            elif isinstance(module, LoraLayer) or _quantised(module):
                covered.update(module.modules())
                self.whole = False
            elif type(module) is nn.Linear:
                self._forwards.append((module, _frozen(self._layer(module))))
            elif (norm := _norm(module, dtype)) is not None:
                self._forwards.append((module, norm))
            if not isinstance(module, LoraLayer):
                self._adapt(dict(module.named_children()))
        last = getattr(model.get_decoder(), "layers", None)
        for name, block in last[-1].named_children() if last else ():
            if name in BLOCKS:
                self._forwards.append((block, self._where_read(block.forward)))

    def _adapt(self, children: dict[str, nn.Module]) -> None:
        """Take over the adapted layers among a block's children, siblings together."""
        plain = {n: c for n, c in children.items() if isinstance(c, LoraLinear) and _plain(c)}
        for names in (*SIBLINGS, *((name,) for name in plain)):
            members: list[Any] = [plain.pop(name) for name in names if name in plain]
            if members:
                scales = [member.scaling["default"] for member in members]
                layers = [self._layer(m.base_layer, s) for m, s in zip(members, scales, strict=True)]
                family = _Family(members, layers, self._dtype if names in GATES else self._stream)
                self._families.append(family)
                self._forwards += [(member, family.forward(at)) for at, member in enumerate(members)]

    def _layer(self, linear: Any, scale: float = 0.0) -> Layer:
        weight, bias = linear.weight.detach(), linear.bias
        return Layer(weight.to(self._dtype), None if bias is None else bias.detach().to(self._dtype), scale)

    def _where_read(self, usual: Forward) -> Forward:
        """A block's forward pass, at the places alone that are read."""

        def forward(x: torch.Tensor) -> torch.Tensor:
            flat, read = x.flatten(0, -2), self.read
            if read is None or len(read) + GRAIN > len(flat):
                return usual(x)
            filled = F.pad(read, (0, -len(read) % GRAIN))
            made = usual(flat.index_select(0, filled)[None])[0, : len(read)]
            whole = made.new_zeros(len(flat), made.shape[-1]).index_copy(0, read, made)
            return whole.view(*x.shape[:-1], -1)

        return forward

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Run the model this way; afterwards it is as it was."""
        usual = self._config._attn_implementation
        self._config._attn_implementation = ATTENTION
        for module, forward in self._forwards:
            module.forward = forward
        try:
            yield
        finally:
            for module, _ in self._forwards:
                del module.forward
            for family in self._families:
                family.forget()
            self.read = None
            self._config._attn_implementation = usual


class _Family:
    """Adapted layers that read the same input: the first that is called computes for all.

    They give `dtype`. What goes on to meet the residual stream or the rotation has their type: on a CPU a
    sum or product of two types takes three times as long as one of a single type.
    """

    def __init__(self, members: Sequence[Any], layers: Sequence[Layer], dtype: torch.dtype) -> None:
        self._members, self._layers, self._dtype = members, layers, dtype
        self._x: torch.Tensor | None = None
        self._made: dict[int, torch.Tensor] = {}

    def forward(self, at: int) -> Forward:
        """The forward pass of the member at this place."""

        def forward(x: torch.Tensor) -> torch.Tensor:
            if self._members[at].disable_adapters:
                layer = self._layers[at]
                return F.linear(x.to(layer.weight.dtype), layer.weight, layer.bias).to(self._dtype)
            if self._x is not x or at not in self._made:
                factors = [f["default"].weight for m in self._members for f in (m.lora_A, m.lora_B)]
                made = Adapted.apply(x, self._layers, *factors)  # type: ignore[no-untyped-call]
                self._x, self._made = x, {number: y.to(self._dtype) for number, y in enumerate(made)}
            y = self._made.pop(at)
            if not self._made:
                self.forget()
            return y

        return forward

    def forget(self) -> None:
        """Let go of what was computed and not asked for."""
        self._x, self._made = None, {}


def _plain(module: Any) -> bool:
    """Whether this is LoRA and nothing else, on a linear layer that is not quantised."""
    return (
        type(module.base_layer) is nn.Linear
        and module.base_layer.weight.is_floating_point()
        and "default" not in module.lora_variant
        and isinstance(module.lora_dropout["default"], nn.Identity)
        and module.lora_B["default"].bias is None
        and not module.fan_in_fan_out
    )


def _quantised(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) and type(module) is not nn.Linear


def _frozen(layer: Layer) -> Forward:
    def forward(x: torch.Tensor) -> torch.Tensor:
        return F.linear(x.to(layer.weight.dtype), layer.weight, layer.bias)

    return forward


def _norm(module: Any, dtype: torch.dtype) -> Forward | None:
    """The norm as `Normed` computes it, or None if it is no RMS norm that this knows."""
    weight = getattr(module, "weight", None)
    eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if "RMSNorm" not in type(module).__name__ or weight is None or weight.requires_grad or eps is None:
        return None
    probe = torch.linspace(-2, 3, weight.shape[0], device=weight.device)[None]
    with torch.no_grad():
        theirs = module(probe.to(weight.dtype)).float()
        for scale in (weight.float(), 1 + weight.float()):  # Gemma keeps the weight less one
            ours = Normed.apply(probe, scale, eps, torch.float32)  # type: ignore[no-untyped-call]
            if torch.allclose(ours, theirs, rtol=0.02, atol=0.02):
                return _normed(scale, float(eps), dtype)
    return None


def _normed(scale: torch.Tensor, eps: float, dtype: torch.dtype) -> Forward:
    def forward(x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = Normed.apply(x, scale, eps, dtype)  # type: ignore[no-untyped-call]
        return y

    return forward
