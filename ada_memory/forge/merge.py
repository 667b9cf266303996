"""The proof that a merged model says what base + adapter say. Engines and chats enter; figures leave."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ada_memory.engines.engine import Engine
from ada_memory.errors import BadInput
from ada_memory.records import Chat


def fidelity(merged: Engine, adapted: Engine, chats: Sequence[Chat]) -> dict[str, float]:
    """How near the merged model is to base + adapter, by the first token of each reply.

    Returns `kl`, the mean KL(base + adapter || merged) in nats, and `top1`, the share of chats on which both
    like the same token best. A model that gives NaN has a `kl` of NaN, which no limit lets through.

    Raises:
        BadInput: there are no chats, so nothing would be proven.
    """
    if not chats:
        raise BadInput("fidelity needs at least one chat")
    theirs = merged.distributions(chats).astype(np.float64)
    ours = adapted.distributions(chats).astype(np.float64)
    kl = (np.exp(ours) * (ours - theirs)).sum(1).mean()
    top1 = (ours.argmax(1) == theirs.argmax(1)).mean()
    return {"kl": max(float(kl), 0.0), "top1": float(top1)}  # rounding alone can bring it below zero
