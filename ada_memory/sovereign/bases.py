"""The untouched model that a mind grows from. A name enters; a hashed folder under the home leaves.

Nothing here changes a base. Every base is served from a copy under its own hash, and a mind goes on growing
on the one that its active generation was grown on: another seedling in the package, or other weights in the
folder that the settings name, change nothing under it.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from ada_memory.errors import AdaError, BadModel
from ada_memory.settings import Home, ModelSettings
from ada_memory.sovereign import general, shelf
from ada_memory.sovereign.manifests import ROOT, active, base_of
from ada_memory.sovereign.shelf import Entry

SEEDLING = "seedling-2"
PACKAGE = Path(__file__).resolve().parent.parent / "seedling"
_SEEDLINGS = re.compile(r"^seedling-\d+$")
_SHORT_HASH = re.compile(r"^[0-9a-f]{12}$")
_HUB_ID = re.compile(r"^[\w.-]+/[\w.-]+$")
_HUB_FILES = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "*.jsonl"]
_NOT_READ = ["consolidated*"]
"""The same weights once more, for other programs."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Base:
    """An untouched model: its Hugging Face folder, the SHA-256 of its files, its core and exam (JSONL).

    These are the ones that came with it; what it did not bring is taken from the general ones.
    """

    path: Path
    hash: str
    core: Path | None
    exam: Path | None
    name: str = ""


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a model comes from: its folder, and the folder of the core and exam that come with it."""

    model: Path
    data: Path


def prepare_base(home: Home, settings: ModelSettings, package: Path = PACKAGE) -> Base:
    """Find the base that this mind grows on, copying or downloading it under `home.bases` if need be.

    As long as the settings name the model that the active generation was grown on (any seedling is the
    seedling), it is that very base. The first 12 digits of a base's hash are a name of it too.
    Blocks: a download takes minutes, a copy some seconds a gigabyte; a base that is there is only looked at.

    Raises:
        BadModel: there is no such model, it has no safetensors weights, it cannot be fetched or does not fit
            on the disk, or the copy under the home was changed.
    """
    name = called(settings.name)
    try:
        entry = _prepare(home, name, package)
    except OSError as error:
        hint = f"look at the room, and at the rights, of {home.bases} and of where the model comes from"
        raise BadModel(f"{name} cannot be prepared: {error}", hint=hint, field="model.name") from error
    folder = shelf.place(home, entry.hash)
    real = name if not _SHORT_HASH.match(name) else next(iter(entry.sources), name)
    core, exam = _if_file(folder / shelf.DATA[0]), _if_file(folder / shelf.DATA[1])
    return Base(folder, entry.hash, core or general.CORE, exam or general.EXAM, real)


def _prepare(home: Home, name: str, package: Path) -> Entry:
    with shelf.alone(home, name):
        source = _source(name, package)
        with shelf.locked(home):
            shelf.sweep(home, name)
            entry = _grown_on(home, name, source) or _kept(home, name, source)
        if entry is None:
            entry = _fetched(home, name, source)
        if source is not None and _brought(entry, name, source):
            with shelf.locked(home):
                entry = shelf.bring_data(home, entry, source.data)
    return entry


def verify_base(home: Home, base: Base) -> None:
    """Hash every file of a base, as `prepare_base` does only with what looks changed.

    Raises:
        BadModel: it is gone, or not what its hash says.
    """
    shelf.verify(shelf.place(home, base.hash), base.hash)


def on_shelf(home: Home, name: str) -> Path | None:
    """The folder of the base that a name (`called`) stands for, if it is here; nothing is checked."""
    source = source_folder(name)
    for entry in shelf.entries(home):
        same = entry.sources.get(name) == shelf.looks(source) if source else name in entry.sources
        if same or (_SHORT_HASH.match(name) and entry.hash.startswith(name)):
            return shelf.place(home, entry.hash)
    return None


def source_folder(name: str, package: Path = PACKAGE) -> Path | None:
    """The folder that a model (`called`) would be copied from; None for one of the hub."""
    found = _source(name, package)
    return found.model if found else None


def is_hub_id(name: str) -> bool:
    """Whether a name can be one of the hub's: owner/model."""
    return bool(_HUB_ID.match(name))


def is_fetched(file: str) -> bool:
    """Whether a file of a model of the hub would be fetched."""
    wanted = any(fnmatch(file, pattern) for pattern in _HUB_FILES)
    return wanted and not any(fnmatch(file, pattern) for pattern in _NOT_READ)


def unknown(name: str) -> BadModel:
    """There is no model of that name."""
    return BadModel(
        f"there is no model {name!r}",
        hint=f"use {SEEDLING}, a folder that exists, or a Hugging Face id such as owner/model",
        field="model.name",
    )


def unreachable(name: str, error: Exception) -> BadModel:
    """A model of the hub that could not be looked at or fetched."""
    said = str(error).strip().splitlines()
    hint = "check the name, the network and the room on the disk; a folder works without a network"
    why = said[0] if said else type(error).__name__
    return BadModel(f"{name} could not be fetched: {why}", hint=hint, field="model.name")


def model_hash(folder: Path) -> str:
    """SHA-256 over the files of a model that an engine may load, in hex.

    Raises:
        BadModel: it has no config.json or no safetensors weights.
    """
    _must_be_model(folder)
    return shelf.content_hash(folder)


def called(name: str) -> str:
    """The name by which a model is remembered: a folder goes by its whole path."""
    folder = Path(name).expanduser()
    known = _SEEDLINGS.match(name) or _SHORT_HASH.match(name)
    return str(folder.resolve()) if not known and (folder.is_absolute() or folder.is_dir()) else name


def _source(name: str, package: Path) -> _Source | None:
    """Where to copy from; None for a model of the hub, and for one that is not there (any more)."""
    if name == SEEDLING:
        return _Source(package / "model", package / "data")
    if _SEEDLINGS.match(name) or _SHORT_HASH.match(name):
        return None
    folder = Path(name)
    return _Source(folder, folder) if folder.is_absolute() and folder.is_dir() else None


def _grown_on(home: Home, name: str, source: _Source | None) -> Entry | None:
    """The base of the active generation, if it is here and the settings still name it."""
    try:
        serves = active(home)
        said = base_of(home, serves) if serves != ROOT else {}
    except AdaError:
        return None  # an ancestor serves, and says so
    if not said or not _same(name, said.get("name", SEEDLING), said["hash"]):
        return None
    entry = shelf.find(home, said["hash"])
    if entry is None:
        log.error("the base of %s (%s) is no longer under %s", serves, said["hash"][:12], home.bases)
        return None
    try:
        return shelf.check(home, entry)
    except BadModel:
        if source is None or model_hash(source.model) != entry.hash:
            raise
        return None  # it will be copied again


def _same(name: str, grown: str, whole: str) -> bool:
    both_seedlings = _SEEDLINGS.match(name) and _SEEDLINGS.match(grown)
    return name == grown or bool(both_seedlings) or (bool(_SHORT_HASH.match(name)) and whole.startswith(name))


def _kept(home: Home, name: str, source: _Source | None) -> Entry | None:
    """The base on the shelf that a name stands for today; None if it must be brought there first."""
    if source is None:  # nothing to compare it to: what came by this name, or goes by this hash
        named = [entry for entry in shelf.entries(home) if name in entry.sources]
        latest = max(named, key=lambda entry: _newest(entry, name), default=None)
        found = shelf.find(home, name) if _SHORT_HASH.match(name) else latest
        return shelf.check(home, found) if found else None
    _must_be_model(source.model)
    for entry in shelf.entries(home):
        if _is_from(entry, name, source):
            try:
                return shelf.check(home, entry)
            except BadModel as error:
                log.warning("%s; it is copied again", error.message)
    return None


def _newest(entry: Entry, name: str) -> int:
    """When the newest file of the source was written, in nanoseconds."""
    return max((at for _, at in entry.sources[name].values()), default=0)


def _fetched(home: Home, name: str, source: _Source | None) -> Entry:
    if source is not None:
        return shelf.put(home, name, source.model)
    return shelf.adopt(home, name, _download(home, name))


def _brought(entry: Entry, name: str, source: _Source) -> bool:
    """Whether this source is this very model; a seedling that was only installed again is hashed to tell."""
    again = bool(_SEEDLINGS.match(name)) and shelf.content_hash(source.model) == entry.hash
    return _is_from(entry, name, source) or again


def _is_from(entry: Entry, name: str, source: _Source) -> bool:
    return entry.sources.get(name) == shelf.looks(source.model)


def _must_be_model(folder: Path) -> None:
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        missing = "config.json or *.safetensors is missing"
        hint = "set model.name to a folder that holds both, as Hugging Face lays them out"
        raise BadModel(f"{folder} is not a model: {missing}", hint=hint, field="model.name")


def _download(home: Home, name: str) -> Path:
    if not is_hub_id(name):
        raise unknown(name)
    # Imported here: it costs a second that only those pay who name a model of the hub.
    from huggingface_hub import snapshot_download  # noqa: PLC0415

    partial = shelf.download_folder(home, name)
    try:
        snapshot_download(name, local_dir=partial, allow_patterns=_HUB_FILES, ignore_patterns=_NOT_READ)
    except (OSError, ValueError) as error:  # the hub's errors derive from these two
        raise unreachable(name, error) from error
    _must_be_model(partial)
    return partial


def _if_file(path: Path) -> Path | None:
    return path if path.is_file() else None
