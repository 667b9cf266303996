"""Causal attention over rows that lie one after another without padding, each seeing only itself.

In: queries, keys and values of a flat sequence, and where its rows lie. Out: the same as from each row alone.
Only the products of attention are padded, to the longest row of a group of like length: everything else in
a layer works token by token and needs no padding at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch.nn import functional as F

LIKE = 0.6
"""Rows are padded together if the shorter has at least this share of the longer's length."""
EAGER = 512
"""Up to this length scores are held and plain batched products are made, on the CPU: 2 to 6 times faster than
torch's fused kernel for rows of 30 to 200 tokens; above, the scores would need too much memory."""
NARROW = 64
"""Below this length a CPU multiplies batches of float32 faster than of bfloat16."""


class Layout:
    """Where rows lie in a flat sequence, and how they are laid side by side for attention."""

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        starts = [0]
        for length in lengths:
            starts.append(starts[-1] + length)
        self.tokens = starts.pop()
        self.blocks: list[tuple[int, int]] = []  # rows and width of each group
        self.positions = torch.cat([torch.arange(n, device=device) for n in lengths])
        source = []
        for group in _alike(lengths):
            width = lengths[group[0]]
            self.blocks.append((len(group), width))
            start = torch.tensor([starts[row] for row in group])[:, None, None]
            size = torch.tensor([lengths[row] for row in group])[:, None, None]
            place = torch.arange(width)
            source.append((start + place.clamp(max=size - 1), place < size))
        self._source = source
        self._device = device
        self._moves: dict[int, tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = {}

    def moves(self, heads: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """For (tokens * heads) vectors: where each padded one comes from, where each goes, which are pads.

        Padded vectors lie as group, row, head, place.
        """
        if heads not in self._moves:
            head = torch.arange(heads)[None, :, None]
            there = torch.cat([(token * heads + head).flatten() for token, _ in self._source])
            real = torch.cat([mask.expand(-1, heads, -1).flatten() for _, mask in self._source])
            back = torch.empty(self.tokens * heads, dtype=torch.long)
            back[there[real]] = torch.arange(len(there))[real]
            pads = torch.nonzero(~real)[:, 0]
            self._moves[heads] = (there.to(self._device), back.to(self._device), pads.to(self._device))
        return self._moves[heads]


def _alike(lengths: Sequence[int]) -> list[list[int]]:
    """Row numbers in groups of like length, the longest first in each."""
    groups: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if groups and lengths[row] >= LIKE * lengths[groups[-1][0]]:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


class _Move(torch.autograd.Function):
    """Vectors to other places, each real one exactly once, so that the way back is a move as well."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, to: torch.Tensor, back: torch.Tensor, pads: torch.Tensor) -> Any:
        ctx.save_for_backward(back, pads)
        ctx.padded = len(to) > len(back)
        return x.index_select(0, to)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        back, pads = ctx.saved_tensors
        moved = gradient.index_select(0, back)
        if not ctx.padded and len(pads):
            moved.index_fill_(0, pads, 0)  # nothing flows into padding
        return moved, None, None, None


class _Scored(torch.autograd.Function):
    """softmax(s q kᵀ + mask) v for N blocks: q (N, n, d), k and v (N, m, d), mask (n, m)."""

    @staticmethod
    def forward(
        ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, scale: float
    ) -> Any:
        share = torch.softmax(torch.baddbmm(mask, q, k.transpose(1, 2), alpha=scale), -1)
        ctx.save_for_backward(q, k, v, share)
        ctx.scale = scale
        return share @ v

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        q, k, v, share = ctx.saved_tensors
        of_v = share.transpose(1, 2) @ gradient
        of_share = gradient @ v.transpose(1, 2)
        of_score = torch._softmax_backward_data(of_share, share, -1, share.dtype)
        of_q = (of_score @ k).mul_(ctx.scale)
        of_k = (of_score.transpose(1, 2) @ q).mul_(ctx.scale)
        return of_q, of_k, of_v, None, None


def attend(  # noqa: PLR0913, PLR0917 -- transformers calls it so
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    rows: Layout | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as transformers calls it: query (1, heads, tokens, d) to (1, tokens, heads, d).

    Without `rows` the first dimension counts rows, all of one length.

    Raises:
        NotImplementedError: the model wants something of its attention that this does not do.
    """
    wanted = [name for name in ("softcap", "s_aux", "position_bias") if others.get(name) is not None]
    if wanted or dropout or attention_mask is not None or not getattr(module, "is_causal", True):
        raise NotImplementedError(f"attention with {wanted or 'a mask or dropout'}")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if rows is None:
        made = _block(query, key, value, scale, sliding_window).transpose(1, 2)
        return made.to(value.dtype), None
    heads, few, width = query.shape[1], key.shape[1], query.shape[3]
    q, k, v = (
        _Move.apply(x[0].transpose(0, 1).reshape(-1, width), *rows.moves(x.shape[1]))  # type: ignore[no-untyped-call]
        for x in (query, key, value)
    )
    blocks: list[torch.Tensor] = []
    at = at_few = 0
    for count, length in rows.blocks:
        size, size_few = count * heads * length, count * few * length
        block = _block(
            q[at : at + size].view(count, heads, length, width),
            k[at_few : at_few + size_few].view(count, few, length, width),
            v[at_few : at_few + size_few].view(count, few, length, width),
            scale,
            sliding_window,
        )
        blocks.append(block.reshape(size, width))
        at, at_few = at + size, at_few + size_few
    there, back, pads = rows.moves(heads)
    whole = torch.cat(blocks) if len(blocks) > 1 else blocks[0]
    out = _Move.apply(whole, back, there, pads)  # type: ignore[no-untyped-call]
    return out.view(1, rows.tokens, heads, width).to(value.dtype), None


def _block(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, window: int | None
) -> torch.Tensor:
    """Rows of one length: q (rows, heads, length, d), k and v with as many or fewer heads, to q's shape."""
    count, heads, length, width = q.shape
    few = k.shape[1]
    window = window if window and window < length else None
    if q.device.type != "cpu" or length > EAGER:
        mask = None if window is None else _mask(length, window, v.dtype, q.device)
        return F.scaled_dot_product_attention(
            q.to(v.dtype), k.to(v.dtype), v, mask, is_causal=mask is None, scale=scale, enable_gqa=few < heads
        )
    dtype = torch.float32 if length < NARROW else v.dtype
    mask = _mask(length, window, dtype, q.device).repeat(heads // few, 1)
    with torch.autocast("cpu", enabled=False):  # else forward and backward would differ in type
        made: torch.Tensor = _Scored.apply(  # type: ignore[no-untyped-call]
            q.reshape(count * few, heads // few * length, width).to(dtype),
            k.reshape(count * few, length, width).to(dtype),
            v.reshape(count * few, length, width).to(dtype),
            mask,
            scale,
        )
    return made.view(count, heads, length, width)


@lru_cache(maxsize=64)
def _mask(length: int, window: int | None, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """0 where a place may look, minus infinity where not: itself and before, at most `window` places."""
    ones = torch.ones(length, length, dtype=torch.bool, device=device)
    seen = ones.tril() if window is None else ones.tril() & ones.triu(1 - window)
    return torch.zeros(length, length, dtype=dtype, device=device).masked_fill_(~seen, float("-inf"))
