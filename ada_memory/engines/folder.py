"""Folders that appear whole or not at all, and what must be in them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from ada_memory.errors import BadModel

MERGED = "ada_merged"
"""The mark of a merged folder in its config.json: packing it would swallow much of what was learned."""


def publish(out: Path, write: Callable[[Path], None]) -> None:
    """Fill a folder beside `out`, then give it its name in one rename."""
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.parent / f".tmp-{out.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        write(temporary)
        if out.exists():
            shutil.rmtree(out)
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def weight_files(folder: Path) -> list[Path]:
    """The files that a model is read from: a folder may hold the same weights a second time, in other files.

    Raises:
        ValueError, OSError: its index cannot be read.
    """
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file():
        return [whole]
    if index.is_file():
        named = json.loads(index.read_text("utf-8"))["weight_map"].values()
        return [folder / name for name in sorted({Path(name).name for name in named})]
    return sorted(folder.glob("*.safetensors"))


def adapter_weights(folder: Path) -> Path:
    """The weights in a PEFT adapter's folder.

    Raises:
        BadModel: the folder is no PEFT adapter.
    """
    weights = folder / "adapter_model.safetensors"
    if not weights.is_file() or not (folder / "adapter_config.json").is_file():
        raise BadModel(
            f"{folder} is not a PEFT adapter: it lacks adapter_config.json or adapter_model.safetensors",
            hint="roll back to a generation whose adapter is whole",
        )
    return weights
