"""Losses from hidden states, without ever holding the logits of a whole batch.

In: hidden states of the places that predict a reply's tokens, and the output layer, which is not trained.
Out: the loss and its gradient at those states, worked out together, some rows at a time: a vocabulary of
150,000 makes 0.6 MB of logits a token, which nobody needs again once the gradient is known (2410.10989).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.nn import functional as F

from ada_memory.engines.peft_linear import Layer

LOGITS = 2**24
"""Most logits held at a time (64 MiB in float32)."""


def likelihood(
    states: torch.Tensor, head: Layer, token: torch.Tensor, weight: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """sum(weight * -log p(token)) in float32, and its gradient at `states`.

    Shapes: states (N, width), token and weight (N). Products are made in the head's type, sums over the
    vocabulary in float32.
    """
    loss = torch.zeros((), device=states.device)
    gradient = torch.empty_like(states)
    for part in _parts(states, head):
        logs = _log_probabilities(states[part], head)
        chosen = token[part, None]
        loss += (weight[part] * -logs.gather(1, chosen)[:, 0]).sum()
        change = logs.exp_().scatter_add_(1, chosen, torch.full_like(chosen, -1, dtype=logs.dtype))
        gradient[part] = (change.to(head.weight.dtype) @ head.weight) * weight[part, None]
    return loss, gradient


def drift(
    states: torch.Tensor, base: torch.Tensor, slack: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """sum(|own - base|² / |base|²) in float32, and its gradient at `states`, 0 for what is within the slack.

    `base` are the states that the base has at the same places. Shapes: both (N, width), slack (N).
    """
    theirs = base.float()
    apart = states.float() - theirs
    size = theirs.square().sum(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    moved = apart.square().sum(-1, keepdim=True) / size
    return moved.sum(), (2 * apart / size * (moved > slack[:, None])).to(states.dtype)


def _parts(states: torch.Tensor, head: Layer) -> Iterator[slice]:
    size = max(LOGITS // len(head.weight), 1)
    for start in range(0, len(states), size):
        yield slice(start, start + size)


def _log_probabilities(states: torch.Tensor, head: Layer) -> torch.Tensor:
    logits = F.linear(states.to(head.weight.dtype), head.weight, head.bias)
    return torch.log_softmax(logits, -1, dtype=torch.float32)
