"""AdamW over all of an adapter's weights as one vector: one sum for the norm, one update, one thing to save.

In: a model with an adapter. Out: its trained weights, float32 always, whatever the base is held in.
"""

from __future__ import annotations

from typing import Any

import torch

from ada_memory.engines.engine import TrainPlan


class Optimizer:
    """The weights as views of one vector while they are trained; `release` gives each its own again."""

    def __init__(self, model: Any, plan: TrainPlan) -> None:
        self._parts = [p for p in model.parameters() if p.requires_grad]
        self.weights = torch.nn.Parameter(torch.cat([p.detach().flatten().float() for p in self._parts]))
        self.weights.grad = torch.zeros_like(self.weights)
        at = 0
        for part in self._parts:
            view = slice(at, at + part.numel())
            at += part.numel()
            part.data = self.weights.data[view].view(part.shape)
            part.grad = self.weights.grad[view].view(part.shape)
        self._adam = torch.optim.AdamW(
            [self.weights], lr=plan.learning_rate, weight_decay=plan.weight_decay, fused=True
        )

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        return float(self._adam.param_groups[0]["lr"])

    @rate.setter
    def rate(self, value: float) -> None:
        self._adam.param_groups[0]["lr"] = value

    @property
    def gradient(self) -> torch.Tensor:
        """The gradient of all weights, as the passes have added it up."""
        if self.weights.grad is None:
            raise RuntimeError("the optimizer was released")
        return self.weights.grad

    def clear(self) -> None:
        """Start a step: the gradient is zero."""
        self.gradient.zero_()

    def clip(self, most: float) -> float:
        """Shrink the gradient to norm `most` if it is longer; gives the norm that it had."""
        norm = torch.linalg.vector_norm(self.gradient)
        self.gradient.mul_(torch.clamp(most / (norm + 1e-6), max=1.0))
        return float(norm)

    def step(self) -> None:
        """Change the weights."""
        self._adam.step()

    def state(self) -> dict[str, torch.Tensor]:
        """Weights and both moments."""
        of = self._adam.state[self.weights]
        return {"weights": self.weights.detach(), "first": of["exp_avg"], "second": of["exp_avg_sq"]}

    def restore(self, state: dict[str, torch.Tensor], step: int) -> None:
        """Go on as after `step` steps that ended in this state.

        Raises:
            KeyError, RuntimeError: it is not whole; nothing has changed.
        """
        device = self.weights.device
        weights, first, second = (state[name].to(device) for name in ("weights", "first", "second"))
        with torch.no_grad():
            self.weights.copy_(weights)
        self._adam.state[self.weights] = {
            "step": torch.tensor(float(step), device=device if device.type == "cuda" else "cpu"),
            "exp_avg": first,
            "exp_avg_sq": second,
        }

    def release(self) -> None:
        """Give each weight its own storage again; gradients are gone."""
        for part in self._parts:
            part.data = part.data.clone()
            part.grad = None
        self.weights.grad = None
