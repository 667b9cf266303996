"""Linear layers with LoRA, and norms, with their gradients written out.

In: activations and frozen weights in the type that products are made in; the adapter's factors in float32.
Out: what the operations one by one would give, to rounding, with fewer casts, copies and small products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

GRAIN = 32
"""Tokens that are multiplied together are filled up to a multiple of this. oneDNN compiles each product for
its shape: with every step of another length that took 8% of a small model's training (torch keeps about a
thousand of them)."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A linear layer y = x Wᵀ + b as it is multiplied with; `scale` is the s of its LoRA s (x Aᵀ) Bᵀ."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    scale: float = 0.0


class Adapted(torch.autograd.Function):
    """y = x Wᵀ + b + s (x Aᵀ) Bᵀ for each of several layers that read the same x (2106.09685).

    x is cast and kept once for all of them, their small products with x are one, W gets no gradient, and
    the parts of x's gradient are summed where they are made. Factors come as A, B, A, B, ….
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, layers: Sequence[Layer], *factors: torch.Tensor) -> Any:
        """Shapes: x (…, in), A (rank, in), B (out, rank); gives a tuple of (…, out)."""
        dtype = layers[0].weight.dtype
        flat = x.reshape(-1, x.shape[-1]).to(dtype)
        down = torch.cat(factors[::2]).to(dtype)
        ups = [(up * layer.scale).to(dtype) for layer, up in zip(layers, factors[1::2], strict=True)]
        small = flat @ down.t()
        made = []
        for layer, up, part in zip(layers, ups, _parts(small, ups), strict=True):
            y = F.linear(flat, layer.weight, layer.bias)
            made.append(y.addmm_(part, up.t()).view(*x.shape[:-1], -1))
        ctx.save_for_backward(flat, small, down, *ups)
        ctx.layers, ctx.shape, ctx.dtype = layers, x.shape, x.dtype
        return tuple(made)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        """Gradients of x and of the factors; the factors' are float32."""
        flat, small, down, *ups = ctx.saved_tensors
        above = [g.reshape(flat.shape[0], -1).to(flat.dtype) for g in gradients]
        back = torch.cat([g @ up for g, up in zip(above, ups, strict=True)], 1)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = back @ down
            for layer, g in zip(ctx.layers, above, strict=True):
                of_x.addmm_(g, layer.weight)
            of_x = of_x.view(ctx.shape).to(ctx.dtype)
        of_factors = []
        of_down = (back.t() @ flat).float().split_with_sizes([up.shape[1] for up in ups])
        for layer, g, part, grown in zip(ctx.layers, above, _parts(small, ups), of_down, strict=True):
            of_factors += [grown, (g.t() @ part).float() * layer.scale]
        return of_x, None, *of_factors


def _parts(small: torch.Tensor, ups: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
    parts: Sequence[torch.Tensor] = torch.split(small, [up.shape[1] for up in ups], dim=1)
    return parts


class Normed(torch.autograd.Function):
    """RMS norm with a weight that is not trained: y = w x / sqrt(mean(x²) + eps), given as `dtype`."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float, dtype: torch.dtype) -> Any:
        """Shapes: x (…, width), weight (width), float32."""
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        shrink = length.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, shrink)
        return (x * shrink).mul_(weight).to(dtype)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        """The gradient of x, in its type."""
        x, weight, shrink = ctx.saved_tensors
        g = gradient.float() * weight  # of one type: see peft_lean
        along = (g * x).sum(-1, keepdim=True).mul_(shrink.pow(3)).div_(-x.shape[-1])
        return g.mul_(shrink).add_(x * along).to(x.dtype), None, None, None
