"""What changed between two model folders, matrix by matrix."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ada_memory.engines.engine import quantised
from ada_memory.engines.folder import weight_files
from ada_memory.errors import BadModel

AGAIN = "the merge wrote something else than the base: `ada sleep` has another night"


@dataclass(frozen=True, slots=True)
class Changes:
    """`relative`: by matrix, Frobenius norm of the change over that of the base; `not_finite`: NaN, Inf."""

    relative: dict[str, float]
    not_finite: int


def changes(base: Path, merged: Path) -> Changes:
    """Compare the weights that two folders of one architecture share.

    A base may store what its model never reads (a tied output, tables of positions): a merge does not write
    that. Whether a merged folder has all that its model reads is seen when it is loaded.

    Raises:
        BadModel: they share none, or one has another shape.
    """
    new = {name: file for file in weight_files(merged) for name in _names(file)}
    relative: dict[str, float] = {}
    not_finite = shared = 0
    for name, old in _weights(base):
        if name not in new:
            continue
        shared += 1
        fresh = _read(new[name], name)
        if old.shape != fresh.shape:
            raise BadModel(f"{name} has another shape in {merged}", hint=AGAIN)
        not_finite += int((~torch.isfinite(fresh)).sum())
        if old.dim() == 2 and not torch.equal(old, fresh):
            relative[name] = float((fresh - old).norm() / old.norm().clamp_min(1e-12))
    if not shared:
        raise BadModel(f"{merged} lacks all weights of {base}", hint=AGAIN)
    return Changes(relative, not_finite)


def scale_adapter(adapter: Path, out: Path, factor: float) -> None:
    """Write a PEFT adapter whose change is `factor` times that of another.

    Raises:
        BadModel: the folder holds no LoRA adapter.
    """
    weights = adapter / "adapter_model.safetensors"
    if not weights.is_file():
        raise BadModel(f"{adapter} holds no adapter", hint="`ada sleep` has another night")
    tensors = {
        name: tensor * factor if ".lora_B." in name else tensor for name, tensor in load_file(weights).items()
    }
    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out / weights.name, {"format": "pt"})
    shutil.copy2(adapter / "adapter_config.json", out / "adapter_config.json")


def _weights(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Every weight of a folder by its name, unpacked where mlx-lm quantised it."""
    if quantised(folder):
        from ada_memory.engines.mlx_merge import unpacked

        for name, array in unpacked(folder):
            yield name, torch.from_numpy(array)
        return
    for file in weight_files(folder):
        for name in _names(file):
            yield name, _read(file, name)


def _names(file: Path) -> list[str]:
    with safe_open(file, "pt") as tensors:
        return list(tensors.keys())


def _read(file: Path, name: str) -> torch.Tensor:
    with safe_open(file, "pt") as tensors:
        tensor: torch.Tensor = tensors.get_tensor(name)
        return tensor.float()
