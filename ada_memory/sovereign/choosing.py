"""What it would mean to live on another model. A name enters; a plan leaves, and what speaks against it.

Looked at are config.json, the tokenizer's files and sizes, never weights: of a model of the hub a few small
files are fetched. Nothing here changes anything.
"""

from __future__ import annotations

import json
import shutil
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any, Literal

from ada_memory.engines import memory
from ada_memory.engines.engine import TrainPlan, named_engine
from ada_memory.engines.families import engines_for
from ada_memory.engines.folder import weight_files
from ada_memory.errors import BadModel
from ada_memory.settings import Home, Settings
from ada_memory.sovereign import bases, shelf

Where = Literal["package", "shelf", "folder", "hub"]
_SMALL_FILES = ("config.json", "tokenizer_config.json", "chat_template.jinja", "chat_template.json")
_SPARE_BYTES = 64 << 20
_KEPT_NIGHTS = 3
"""Copies of merged weights on the disk at a time: what serves, what the night made, and one half written."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a model is and costs, in bytes; `minutes` for a night of 100 memories where one was measured."""

    name: str
    where: Where
    architecture: str
    engine: str
    parameters: int
    context: int
    download: int
    disk: int
    disk_free: int
    serve: int
    train: int
    memory_free: int
    minutes: float | None = None
    problems: tuple[str, ...] = field(default=())
    warnings: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class _Seen:
    """What can be known of a model before it is here: its small files in `folder`, names and sizes of all."""

    folder: Path
    files: Mapping[str, int]
    parameters: int


def plan(home: Home, settings: Settings, name: str) -> Plan:
    """Look at a model and say what it needs.

    Raises:
        BadModel: there is no such model, or the hub cannot be reached.
    """
    called = bases.called(name)
    here = bases.on_shelf(home, called)
    source = bases.source_folder(called)
    if here is not None:
        return _plan(home, settings, called, "shelf", _folder(here))
    if source is not None:
        where: Where = "package" if called == bases.SEEDLING else "folder"
        return _plan(home, settings, called, where, _folder(source))
    if not bases.is_hub_id(called):
        raise bases.unknown(called)
    with tempfile.TemporaryDirectory(prefix="ada-") as scratch:
        return _plan(home, settings, called, "hub", _hub(called, Path(scratch)))


def parameters(folder: Path) -> int:
    """The number of weights in a folder's safetensors files, from their headers."""
    stored: Counter[str] = Counter()
    for path in weight_files(folder):
        for row in _header(path).values():
            stored[row["dtype"]] += prod(row["shape"])
    return _unpacked(stored, config_of(folder))


def config_of(folder: Path) -> dict[str, Any]:
    """A model's config.json; empty if it has none that can be read."""
    try:
        body = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return body if isinstance(body, dict) else {}


def context_of(config: Mapping[str, Any]) -> int:
    """The longest sequence that the model takes, in tokens."""
    text = config.get("text_config") or config
    return int(text.get("max_position_embeddings") or 4096)


def _plan(home: Home, settings: Settings, name: str, where: Where, seen: _Seen) -> Plan:
    config = config_of(seen.folder)
    known = engines_for(config) if config else []
    engine = named_engine(settings.model.engine, seen.folder)
    forge = settings.forge
    stored = sum(size for file, size in seen.files.items() if file.endswith(".safetensors"))
    gpu = memory.gpu_memory() if engine == "peft" and settings.model.device != "cpu" else None
    free = memory.free_memory() if gpu is None else gpu
    train = memory.fit(
        config, TrainPlan(rank=forge.rank, alpha=forge.alpha, batch_size=forge.batch_size),
        free, parameters=seen.parameters, device="cpu" if gpu is None else "cuda",
        dtype=_numbers(settings, engine), weights=stored if "quantization" in config else None,
    )  # fmt: skip
    on_disk = sum(seen.files.values())
    # what serves is merged, and not packed
    serve = seen.parameters * (4 if gpu is None and memory.held_wide(seen.parameters) else 2)
    made = Plan(
        name=name, where=where, architecture=str(next(iter(config.get("architectures") or ()), "")),
        engine=engine, parameters=seen.parameters, context=context_of(config),
        download=on_disk if where == "hub" else 0,
        disk=_KEPT_NIGHTS * serve + (0 if where == "shelf" else on_disk), disk_free=_free(home),
        serve=serve, train=train.total, memory_free=free,
        minutes=_minutes(home, seen.parameters),
    )  # fmt: skip
    problems = _problems(seen, config, settings, known, made)
    return replace(made, problems=problems, warnings=_warnings(made))


def _problems(
    seen: _Seen, config: Mapping[str, Any], settings: Settings, known: list[Any], made: Plan
) -> tuple[str, ...]:
    """What makes it impossible."""
    found = []
    wanted = settings.model.engine if settings.model.engine != "auto" else f"auto ({made.engine} here)"
    weights = [file for file in seen.files if file.endswith(".safetensors")]
    if not config:
        found.append("it has no config.json: it is not laid out as Hugging Face lays out models")
    elif not known:
        kind = config.get("model_type") or "no model_type"
        packed = " packed by another tool" if "quantization_config" in config else ""
        found.append(f"no engine here runs it as a causal language model ({kind}{packed})")
    elif made.engine not in known:
        found.append(f"model.engine is {wanted}, which does not run it; {' or '.join(known)} would")
    if settings.model.dtype == "nf4":
        found += _packing(made.engine)
    if not weights:
        found.append("it has no safetensors weights; other formats can run code when they are read")
    if not {"tokenizer.json", "tokenizer.model"} & set(seen.files):
        found.append("it has no tokenizer")
    elif not _has_template(seen.folder):
        found.append("its tokenizer has no chat template: use an instruct or chat model")
    if made.disk + _SPARE_BYTES > made.disk_free:
        found.append(f"the disk is too small: {_size(made.disk)} needed, {_size(made.disk_free)} free")
    return tuple(found)


def _numbers(settings: Settings, engine: str) -> str:
    """The number format in which an engine trains, where the settings leave it to it."""
    dtype = settings.model.dtype
    if engine == "mlx" and dtype == "auto":
        return "bfloat16" if sys.platform == "darwin" else "float32"
    return dtype


def _packing(engine: str) -> list[str]:
    """What keeps this engine from packing the base as nf4."""
    if engine == "mlx":
        return ['model.dtype is nf4, which the mlx engine does not read: set it to "auto"']
    if find_spec("bitsandbytes") is None:
        return ['model.dtype is nf4, which needs bitsandbytes: install it, or set model.dtype = "auto"']
    return []


def _warnings(made: Plan) -> tuple[str, ...]:
    """What makes it unwise."""
    found = []
    for what, bytes_ in (("to serve", made.serve), ("to train", made.train)):
        if bytes_ > made.memory_free:
            found.append(f"memory {what}: {_size(bytes_)}, of which {_size(made.memory_free)} are free now")
    return tuple(found)


def _has_template(folder: Path) -> bool:
    if any((folder / name).is_file() for name in ("chat_template.jinja", "chat_template.json")):
        return True
    try:
        return bool(json.loads((folder / "tokenizer_config.json").read_text("utf-8")).get("chat_template"))
    except (OSError, ValueError, AttributeError):
        return False


def _folder(folder: Path) -> _Seen:
    files = {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.is_file()}
    try:
        count = parameters(folder)
    except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
        hint = "fetch or copy the model again"
        raise BadModel(f"the weights in {folder} cannot be read: {error}", hint=hint) from error
    return _Seen(folder, files, count)


def _hub(name: str, scratch: Path) -> _Seen:
    # Imported here: it costs a second that only those pay who name a model of the hub.
    from huggingface_hub import HfApi, hf_hub_download

    try:
        info = HfApi().model_info(name, files_metadata=True)
        files = {file.rfilename: int(file.size or 0) for file in info.siblings or ()}
        files = {file: size for file, size in files.items() if "/" not in file and bases.is_fetched(file)}
        for file in _SMALL_FILES:
            if file in files:
                hf_hub_download(name, file, local_dir=scratch)
    except (OSError, ValueError) as error:  # the hub's errors derive from these two
        raise bases.unreachable(name, error) from error
    weights = sum(size for file, size in files.items() if file.endswith(".safetensors"))
    stored = info.safetensors.parameters if info.safetensors is not None else {"BF16": weights // 2}
    return _Seen(scratch, files, _unpacked(stored, config_of(scratch)))


def _unpacked(stored: Mapping[str, int], config: Mapping[str, Any]) -> int:
    """How many weights a model has, of so many numbers of each type in its files.

    mlx-lm packs several weights into one U32, and keeps a scale and a bias for every group of them.
    """
    total, how = sum(stored.values()), config.get("quantization")
    if not how:
        return total
    packed = stored.get("U32", 0)
    weights = packed * 32 // int(how["bits"])
    return total - packed + weights - 2 * weights // int(how["group_size"])


def _header(path: Path) -> dict[str, dict[str, Any]]:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        body: dict[str, dict[str, Any]] = json.loads(file.read(length))
    body.pop("__metadata__", None)
    return body


def _minutes(home: Home, count: int) -> float | None:
    """Minutes for 100 memories, from the last night that taught anything and the size of its model."""
    reports = home.nights.glob("*/report/report.json")
    for path in sorted(reports, key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            report = json.loads(path.read_text("utf-8"))
            bundle = json.loads((path.parent.parent / "bundle.json").read_text("utf-8"))
            learned, seconds = len(report["learned"]), float(report["seconds"])
            size = parameters(Path(bundle["base"]))
        except (OSError, ValueError, KeyError, TypeError, struct.error):
            continue
        if learned and size:
            return seconds / 60 * 100 / learned * count / size
    return None


def _free(home: Home) -> int:
    place = home.bases
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def _size(count: float) -> str:
    return shelf.size(int(count))
