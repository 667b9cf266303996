"""How a model's replies are taken: as yes or no, and as the words that they hold."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from ada_memory.dream import prompts
from ada_memory.engines.engine import Speaker
from ada_memory.records import Chat

OUTRIGHT = 0.9
"""Probability of Yes from which No is not asked for: together they have no more than 1."""


def yes(engine: Speaker, chats: Sequence[Chat]) -> list[float]:
    """Probability of Yes against No as the reply to each chat."""
    ayes = [float(np.sum(logs)) for logs in engine.score(chats, [prompts.YES] * len(chats))]
    sure = [float(np.exp(aye)) for aye in ayes]
    open_ = [at for at, share in enumerate(sure) if share < OUTRIGHT]
    noes = engine.score([chats[at] for at in open_], [prompts.NO] * len(open_)) if open_ else []
    for at, logs in zip(open_, noes, strict=True):
        sure[at] = float(1 / (1 + np.exp(np.clip(np.sum(logs) - ayes[at], -50, 50))))
    return sure


def words(text: str) -> set[str]:
    """The words of a text, without case and punctuation."""
    return set(re.findall(r"[\w:'-]*\w", text.casefold()))
