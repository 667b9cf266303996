"""Rows of prompt and reply, as the model reads them: what scoring and training share.

In: a torch model and rows. Out: float32 logits, flat over all reply tokens of the batch; or the rows laid
one after another. Padded rows are padded on the right and without a mask: causal attention never looks there,
and torch takes its fastest kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ada_memory.engines.text import Row


@dataclass(frozen=True, slots=True)
class Packed:
    """A batch: ids (rows, width); for each of its N reply tokens the row, the place and the token."""

    ids: torch.Tensor
    row: torch.Tensor
    place: torch.Tensor
    token: torch.Tensor
    sizes: list[int]


def pack(rows: Sequence[Row], pad: int, device: torch.device) -> Packed:
    """Put rows side by side. The token after place p is predicted at place p."""
    width = max(map(len, rows))
    ids = [row.prompt + row.reply + [pad] * (width - len(row)) for row in rows]
    owner = [at for at, row in enumerate(rows) for _ in row.reply]
    place = [len(row.prompt) - 1 + i for row in rows for i in range(len(row.reply))]
    token = [token for row in rows for token in row.reply]

    def tensor(values: Sequence[object]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.long, device=device)

    return Packed(tensor(ids), tensor(owner), tensor(place), tensor(token), [len(row.reply) for row in rows])


def chain(rows: Sequence[Row], device: torch.device) -> Packed:
    """Put rows one after another: ids (1, tokens), `place` counts from the first token of the first row."""
    ids = [[token for row in rows for token in (*row.prompt, *row.reply)]]
    starts, at = [], 0
    for row in rows:
        starts.append(at)
        at += len(row)
    owner = [at for at, row in enumerate(rows) for _ in row.reply]
    place = [
        start + len(row.prompt) - 1 + i
        for start, row in zip(starts, rows, strict=True)
        for i in range(len(row.reply))
    ]
    token = [token for row in rows for token in row.reply]

    def tensor(values: Sequence[object]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.long, device=device)

    return Packed(tensor(ids), tensor(owner), tensor(place), tensor(token), [len(row.reply) for row in rows])


def reply_logits(model: Any, packed: Packed, mixed: bool) -> torch.Tensor:
    """Logits that predict each reply token: float32, shape (N, vocabulary).

    `mixed` runs the products in bfloat16 (autocast); sums over the vocabulary stay in float32.
    """
    return reply_outputs(model, packed, mixed)[0]


def reply_outputs(model: Any, packed: Packed, mixed: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """`reply_logits`, and what the output layer makes them from: states of shape (N, width)."""
    keep, where = torch.unique(packed.place, return_inverse=True)
    read: list[torch.Tensor] = []
    hook = model.get_output_embeddings().register_forward_pre_hook(lambda _, given: read.append(given[0]))
    try:
        with torch.autocast(packed.ids.device.type, torch.bfloat16, enabled=mixed):
            logits = model(input_ids=packed.ids, use_cache=False, logits_to_keep=keep).logits
    finally:
        hook.remove()
    return logits[packed.row, where].float(), read[-1][packed.row, where]
