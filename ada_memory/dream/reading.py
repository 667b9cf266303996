"""How a model's replies are taken: as yes or no, and as the words that they hold."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from ada_memory.dream import prompts
from ada_memory.engines.engine import Speaker
from ada_memory.records import Chat


def yes(engine: Speaker, chats: Sequence[Chat]) -> list[float]:
    """Probability of Yes against No as the reply to each chat."""
    scored = engine.score([c for c in chats for _ in range(2)], [prompts.YES, prompts.NO] * len(chats))
    sums = [float(np.sum(s)) for s in scored]
    return [
        float(1 / (1 + np.exp(np.clip(no - aye, -50, 50))))
        for aye, no in zip(sums[::2], sums[1::2], strict=True)
    ]


def words(text: str) -> set[str]:
    """The words of a text, without case and punctuation."""
    return set(re.findall(r"[\w:'-]*\w", text.casefold()))
