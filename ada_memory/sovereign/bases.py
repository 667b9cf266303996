"""The pristine model that a mind grows from. A name enters; a hashed folder leaves.

Nothing here changes a base. The model that ships inside the package is copied under the home by its
content, so that an upgrade of the package never changes a base under a mind that was grown on it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ada_memory.errors import BadModel
from ada_memory.settings import Home, ModelSettings
from ada_memory.sovereign.disk import file_hashes, folder_hash, fresh, publish

SEEDLING = "seedling-1"
PACKAGE = Path(__file__).resolve().parent.parent / "seedling"
_HUB_ID = re.compile(r"^[\w.-]+/[\w.-]+$")
_HUB_FILES = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]


@dataclass(frozen=True, slots=True)
class Base:
    """A pristine model: its Hugging Face folder, the SHA-256 of its files, its core and its exam (JSONL)."""

    path: Path
    hash: str
    core: Path | None
    exam: Path | None


def prepare_base(home: Home, settings: ModelSettings, package: Path = PACKAGE) -> Base:
    """Find the base that the settings name, copying or downloading it under `home.bases` if need be.

    Blocks: a download takes minutes, hashing some seconds a gigabyte.

    Raises:
        BadModel: there is no such model, it has no safetensors weights, or it cannot be fetched.
    """
    if settings.name == SEEDLING:
        path, found = _copy(home, package / "model")
        data = package / "data"
        return Base(path, found, _if_file(data / "core.jsonl"), _if_file(data / "exam.jsonl"))
    folder = Path(settings.name).expanduser()
    if folder.is_dir():
        return _base(folder.resolve())
    if _HUB_ID.match(settings.name):
        return _base(_download(home, settings.name))
    raise BadModel(
        f"there is no model {settings.name!r}",
        hint=f"use {SEEDLING}, a folder that exists, or a Hugging Face id such as owner/model",
        field="model.name",
    )


def model_hash(folder: Path) -> str:
    """SHA-256 over a model folder's files, in hex.

    Raises:
        BadModel: it has no config.json or no safetensors weights.
    """
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise BadModel(f"{folder} is not a model: config.json or *.safetensors is missing")
    return folder_hash(file_hashes(folder))


def _base(folder: Path) -> Base:
    return Base(folder, model_hash(folder), None, None)


def _copy(home: Home, source: Path) -> tuple[Path, str]:
    wanted = model_hash(source)
    place = home.bases / wanted[:12]
    if place.is_dir() and folder_hash(file_hashes(place)) == wanted:
        return place, wanted
    partial = fresh(home.bases / f".tmp-{wanted[:12]}")
    for name in file_hashes(source):
        copy = partial / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((source / name).read_bytes())
    if folder_hash(file_hashes(partial)) != wanted:
        raise BadModel(f"{source} changed while it was copied", hint="start again")
    publish(partial, place)
    return place, wanted


def _download(home: Home, name: str) -> Path:
    place = home.bases / name.replace("/", "--")
    if place.is_dir():
        return place
    # Imported here: it costs a second that only those pay who name a model of the hub.
    from huggingface_hub import snapshot_download  # noqa: PLC0415

    partial = home.bases / f".tmp-{place.name}"  # kept when interrupted: the hub's client resumes in it
    try:
        snapshot_download(name, local_dir=partial, allow_patterns=_HUB_FILES)
    except (OSError, ValueError) as error:  # the hub's errors derive from these two
        hint = "check the name and the network"
        raise BadModel(f"{name} could not be fetched: {error}", hint=hint, field="model.name") from error
    publish(partial, place)
    return place


def _if_file(path: Path) -> Path | None:
    return path if path.is_file() else None
