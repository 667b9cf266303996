"""Decoding: prompts to replies, token by token, in one batch.

In: a torch model, prompts as token ids, how to draw. Out: reply token ids. Own loop, because rows that are
finished leave the batch, equal prompts are read once, and a row's draws do not depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ada_memory.engines.engine import Sampling

DROP_SHARE = 0.125
"""Finished rows leave once they are this share of the batch: dropping copies the cache."""


def draws(rows: int, sampling: Sampling) -> torch.Tensor | None:
    """The uniform numbers that decide every token: shape (rows, max_tokens); None when greedy."""
    if sampling.temperature <= 0:
        return None
    generator = torch.Generator().manual_seed(sampling.seed)
    return torch.rand(rows, sampling.max_tokens, generator=generator)


def choose(logits: torch.Tensor, uniform: torch.Tensor | None, sampling: Sampling) -> torch.Tensor:
    """One token a row from logits (rows, vocabulary): the best, or where `uniform` (rows,) falls."""
    if uniform is None:
        return logits.argmax(-1)
    chances = torch.softmax(logits.float() / sampling.temperature, -1)
    least = sampling.min_p * chances.max(-1, keepdim=True).values
    ladder = chances.where(chances >= least, 0.0).cumsum(-1)
    # below 1 by more than float32 rounds, so that the last rung is never overstepped
    height = uniform.clamp(max=1 - 1e-6)[:, None] * ladder[:, -1:]
    return torch.searchsorted(ladder, height, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)


@torch.no_grad()
def decode(
    model: Any,
    prompts: Sequence[list[int]],
    uniform: torch.Tensor | None,
    sampling: Sampling,
    stops: set[int],
) -> list[list[int]]:
    """Reply tokens of each prompt, the stop token included where one came."""
    device = model.device
    replies: list[list[int]] = [[] for _ in prompts]
    alive = list(range(len(prompts)))
    logits, cache, mask = _read(model, prompts, device)
    place = mask.sum(1, keepdim=True)
    for step in range(sampling.max_tokens):
        drawn = None if uniform is None else uniform[alive, step].to(device)
        tokens = choose(logits, drawn, sampling)
        going = []
        for at, (row, token) in enumerate(zip(alive, tokens.tolist(), strict=True)):
            if not replies[row] or replies[row][-1] not in stops:
                replies[row].append(token)
                if token not in stops:
                    going.append(at)
        if not going or step + 1 == sampling.max_tokens:
            break
        if len(going) <= (1 - DROP_SHARE) * len(alive):
            keep = torch.tensor(going, device=device)
            cache.reorder_cache(keep)
            tokens, mask, place = tokens[keep], mask[keep], place[keep]
            alive = [alive[at] for at in going]
        mask = torch.cat([mask, mask.new_ones(len(alive), 1)], 1)
        out = model(
            input_ids=tokens[:, None],
            attention_mask=mask,
            position_ids=place,
            cache=cache,
            use_cache=True,
        )
        logits, place = out.logits[:, -1], place + 1
    return replies


def _read(
    model: Any, prompts: Sequence[list[int]], device: torch.device
) -> tuple[torch.Tensor, Any, torch.Tensor]:
    """Run the prompts, equal ones once: (logits of what comes next, cache, attention mask)."""
    places: dict[tuple[int, ...], int] = {}
    which = [places.setdefault(tuple(prompt), len(places)) for prompt in prompts]
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in places], device=device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in places], device=device)
    out = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=(mask.cumsum(1) - 1).clamp(min=0),
        use_cache=True,
        logits_to_keep=1,
    )
    cache, logits = out.cache, out.logits[:, -1]
    if len(places) < len(prompts):
        spread = torch.tensor(which, device=device)
        cache.reorder_cache(spread)  # by any indices; convolutions (LFM2) know no other way
        logits, mask = logits[spread], mask[spread]
    return logits, cache, mask
