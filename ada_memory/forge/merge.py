"""Base + adapter to one model, and the proof that they say the same.

In: an engine with an adapter; later two engines and some chats. Out: a Hugging Face folder; figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ada_memory.engines.engine import Engine
from ada_memory.errors import BadInput
from ada_memory.records import Chat


def merge(engine: Engine, out: Path) -> None:
    """Write base + adapter as one Hugging Face folder. The engine itself is used up by it."""
    engine.merge(out)


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
    return {"kl": float(kl), "top1": float(top1)}
