"""Decoding: prompts to replies, token by token, in one batch.

In: a model in MLX, prompts as token ids, how to draw. Out: reply token ids. Own loop, because rows that are
finished leave the batch, equal prompts are read once, and a row's draws do not depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ada_memory.engines.engine import Sampling
from ada_memory.engines.mlx_body import Body
from ada_memory.engines.mlx_core import caches, mx

DROP_SHARE = 0.125
"""Finished rows leave once they are this share of the batch: dropping copies the cache."""

UNPADDED = frozenset({"gemma2", "phi3small"})
"""Families whose attention in mlx-lm mixes the rows of a batch up as soon as they are padded."""

Draws = NDArray[np.float32]


def draws(rows: int, sampling: Sampling) -> Draws | None:
    """The uniform numbers that decide every token: shape (rows, max_tokens); None when greedy."""
    if sampling.temperature <= 0:
        return None
    return np.random.default_rng(sampling.seed).random((rows, sampling.max_tokens), np.float32)


def choose(logits: Any, uniform: Draws | None, sampling: Sampling) -> Any:
    """One token a row from logits (rows, vocabulary): the best, or where `uniform` (rows,) falls."""
    if uniform is None:
        return mx.argmax(logits, -1)
    chances = mx.softmax(logits / sampling.temperature, -1, precise=True)
    least = sampling.min_p * chances.max(-1, keepdims=True)
    ladder = mx.cumsum(mx.where(chances >= least, chances, 0.0), -1)
    # below 1 by more than float32 rounds, so that the last rung is never overstepped
    height = mx.array(np.minimum(uniform, 1 - 1e-6))[:, None] * ladder[:, -1:]
    return mx.minimum((ladder <= height).sum(-1), logits.shape[-1] - 1)


def paddable(model: Any) -> bool:
    """Whether prompts of different lengths can share a batch."""
    known = (caches.KVCache, caches.RotatingKVCache, caches.ArraysCache)
    made = caches.make_prompt_cache(model)
    return model.model_type not in UNPADDED and all(type(cache) in known for cache in made)


def decode(
    body: Body, prompts: Sequence[list[int]], uniform: Draws | None, sampling: Sampling, stops: set[int]
) -> list[list[int]]:
    """Reply tokens of each prompt, the stop token included where one came.

    Prompts must be of one length where the model is not `paddable`.
    """
    replies: list[list[int]] = [[] for _ in prompts]
    alive = np.arange(len(prompts))
    shared = paddable(body.model)
    logits, cache = _read(body, prompts, shared)
    for step in range(sampling.max_tokens):
        drawn = None if uniform is None else uniform[alive, step]
        tokens = np.array(choose(logits, drawn, sampling))
        going = []
        for at, (row, token) in enumerate(zip(alive.tolist(), tokens.tolist(), strict=True)):
            if not replies[row] or replies[row][-1] not in stops:
                replies[row].append(token)
                if token not in stops:
                    going.append(at)
        if not going or step + 1 == sampling.max_tokens:
            break
        if shared and len(going) <= (1 - DROP_SHARE) * len(alive):
            _keep(cache, going)
            tokens, alive = tokens[going], alive[going]
        logits = body.logits(mx.array(tokens)[:, None], mx.arange(len(alive)), cache)
    return replies


def _read(body: Body, prompts: Sequence[list[int]], shared: bool) -> tuple[Any, list[Any]]:
    """Run the prompts, equal ones once: (logits of what comes next, caches)."""
    places: dict[tuple[int, ...], int] = {}
    which = [places.setdefault(tuple(prompt), len(places)) for prompt in prompts]
    distinct = list(places) if shared else prompts
    width = max(map(len, prompts))
    ids = mx.array([[0] * (width - len(prompt)) + list(prompt) for prompt in distinct])
    cache = _caches(body.model, [width - len(prompt) for prompt in distinct], shared)
    logits = body.logits(ids, mx.arange(len(distinct)) * width + width - 1, cache)
    if len(distinct) < len(prompts):
        _keep(cache, which)
        logits = logits[mx.array(which)]
    return logits, cache


def _keep(cache: Sequence[Any], rows: Sequence[int]) -> None:
    for layer in cache:
        layer.filter(mx.array(rows))


def _caches(model: Any, padding: list[int], shared: bool) -> list[Any]:
    """One cache a layer, for rows with so much padding before them."""
    made: list[Any] = caches.make_prompt_cache(model)
    if not shared:
        return made
    return [_for_rows(cache, padding) for cache in made]


def _for_rows(cache: Any, padding: list[int]) -> Any:
    if isinstance(cache, caches.ArraysCache):
        cache.left_padding = mx.array(padding)
        return cache
    if isinstance(cache, caches.RotatingKVCache):
        return caches.BatchRotatingKVCache(cache.max_size, padding)
    return caches.BatchKVCache(padding)
