"""The generations of a mind. A trained adapter enters; a folder that can be checked leaves.

Each generation is `generations/<id>/`: `adapter/` (PEFT), `manifest.json` and `key`. A manifest names its
parent's commitment, so that the chain can be walked without any key. What was learned is committed to by
an HMAC under `key`: with the key destroyed the chain still holds, and no guess at the data can be tested.
`gen-0000` is the base itself and has no folder.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import cast

from ada_memory.errors import BadModel, NotFound
from ada_memory.records import Generation, Verdict
from ada_memory.settings import Home
from ada_memory.sovereign.bases import Base as Base  # noqa: PLC0414  both are sought here too
from ada_memory.sovereign.bases import prepare_base as prepare_base  # noqa: PLC0414
from ada_memory.sovereign.disk import (
    file_hash,
    file_hashes,
    folder_hash,
    fresh,
    link_tree,
    publish,
    replace_text,
    sync,
    to_json,
)

ROOT = "gen-0000"
_BEGINNING = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


@dataclass(frozen=True, slots=True)
class Serving:
    """What an engine must load to speak as a generation: one folder, and perhaps an adapter on it."""

    generation: str
    model: Path
    adapter: Path | None


def generation_name(number: int) -> str:
    """The id of the generation with that number: 3 → "gen-0003"."""
    return f"gen-{number:04d}"


def number(generation: str) -> int:
    """The number in a generation's id: "gen-0003" → 3.

    Raises:
        NotFound: that is no generation's id.
    """
    prefix, _, digits = generation.partition("-")
    if prefix != "gen" or not digits.isdecimal() or generation_name(int(digits)) != generation:
        raise NotFound(f"{generation!r} is no name of a generation", hint="such as gen-0001")
    return int(digits)


def next_id(home: Home) -> str:
    """The id that the next generation gets."""
    taken = [path.name for path in home.generations.glob("gen-*")] if home.generations.is_dir() else []
    return generation_name(max((number(name) for name in taken), default=0) + 1)


def adapter_folder(home: Home, generation: str) -> Path | None:
    """Where the generation's PEFT adapter lies; None for the base."""
    return None if generation == ROOT else home.generations / generation / "adapter"


def write(
    home: Home, generation: Generation, adapter_from: Path, base: Base, dataset: Sequence[Path] = ()
) -> Generation:
    """Write a generation's folder in one step; if it is there already, check it and leave it.

    Returns it with `adapter` set to the SHA-256 (hex) of the adapter's files, as `read` does.
    `dataset` names the files that it was trained on; they are committed to, not kept.

    Raises:
        BadModel: the adapter is empty, the parent cannot be read, or the id was given to another night.
    """
    place = home.generations / generation.id
    if place.exists():
        there = read(home, generation.id)
        if (there.night, there.parent) != (generation.night, generation.parent):
            raise BadModel(f"{generation.id} belongs to night {there.night} already")
        return there
    parent = generation.parent or ROOT
    partial = fresh(home.generations / f".tmp-{generation.id}")
    shutil.copytree(adapter_from, partial / "adapter")
    hashes = file_hashes(partial / "adapter")
    if not any(name.endswith(".safetensors") for name in hashes):
        raise BadModel(f"{adapter_from} holds no adapter weights")
    key = secrets.token_bytes(32)
    body: dict[str, object] = {
        "id": generation.id, "parent": parent, "parent_commitment": _commitment(home, parent, base),
        "night": generation.night, "verdict": generation.verdict,
        "created_at": generation.created_at.isoformat(),
        "base": {"hash": base.hash, "path": str(base.path)},
        "adapter": {"sha256": folder_hash(hashes), "files": hashes}, "dataset": _keyed(key, dataset),
    }
    replace_text(partial / "manifest.json", to_json({**body, "commitment": _sealed(body)}, indent=2))
    with os.fdopen(os.open(partial / "key", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(key.hex())
    publish(partial, place)
    return read(home, generation.id)


def read(home: Home, generation: str) -> Generation:
    """Read a generation, its manifest and adapter checked against their hashes. The base needs no check here.

    Raises:
        NotFound: there is no such generation.
        BadModel: the manifest or the adapter is not what was written.
    """
    if number(generation) == 0:
        return Generation(ROOT, None, None, None, _BEGINNING)
    body = manifest(home, generation)
    hashes = file_hashes(home.generations / generation / "adapter")
    wanted = cast(dict[str, object], body["adapter"])
    if folder_hash(hashes) != wanted["sha256"]:
        raise BadModel(f"the adapter of {generation} is damaged", hint="`ada rollback` returns to its parent")
    return Generation(
        id=generation,
        parent=str(body["parent"]),
        night=cast("str | None", body["night"]),
        adapter=str(wanted["sha256"]),
        created_at=datetime.fromisoformat(cast(str, body["created_at"])),
        verdict=cast("Verdict | None", body["verdict"]),
    )


def manifest(home: Home, generation: str) -> dict[str, object]:
    """The manifest of a generation, checked against its own seal.

    Raises:
        NotFound: there is no such generation.
        BadModel: it is damaged.
    """
    path = home.generations / generation / "manifest.json"
    if not path.is_file():
        raise NotFound(f"there is no generation {generation}", hint="`ada nights` lists them")
    try:
        body = json.loads(path.read_text("utf-8"))
        sealed = body.pop("commitment")
    except (ValueError, KeyError, AttributeError) as error:
        raise BadModel(f"{path} is damaged: {error}", hint="`ada reset` returns to the base") from error
    if sealed != _sealed(body):
        raise BadModel(f"{path} was changed after it was written", hint="`ada reset` returns to the base")
    return {**body, "commitment": sealed}


def destroy_key(home: Home, generation: str) -> None:
    """Make the generation's dataset commitment untestable for ever; the chain stays whole."""
    path = home.generations / generation / "key"
    if path.is_file():
        path.write_bytes(b"0" * path.stat().st_size)
        sync(path)
        path.unlink()
        sync(path.parent)


def active(home: Home) -> str:
    """The generation that the pointer names; the base if there is no pointer.

    Raises:
        BadModel: the pointer is not a generation's name.
    """
    pointer = home.mind / "active"
    if not pointer.exists():
        return ROOT
    name = pointer.read_text("utf-8").strip()
    try:
        number(name)
    except NotFound:
        hint = "`ada reset` returns to the base"
        raise BadModel(f"{pointer} is damaged: {name[:40]!r}", hint=hint) from None
    return name


def activate_pointer(home: Home, generation: str) -> None:
    """Point to another generation: one atomic rename. Only succession calls it, after a probe."""
    replace_text(home.mind / "active", generation + "\n")


def serving(home: Home, base: Base, generation: str) -> Serving:
    """What to load for a generation: its merged folder if that is there whole, else the base and its adapter.

    Raises:
        NotFound: there is no such generation.
        BadModel: it is damaged, or it was grown on another base.
    """
    read(home, generation)
    if generation == ROOT:
        return Serving(ROOT, base.path, None)
    grown_on = cast(dict[str, object], manifest(home, generation)["base"])
    if grown_on["hash"] != base.hash:
        raise BadModel(
            f"{generation} was grown on another base ({grown_on['path']})",
            hint="name that model in the settings, or `ada reset` to start from the new one",
            field="model.name",
        )
    merged = home.merged / generation
    if (merged / "config.json").is_file() and any(merged.glob("*.safetensors")):
        return Serving(generation, merged, None)
    return Serving(generation, base.path, adapter_folder(home, generation))


def cache_merged(home: Home, generation: str, model: Path) -> None:
    """Keep a folder of merged weights for serving, in one step and, where links can be, without a copy."""
    place = home.merged / generation
    partial = fresh(home.merged / f".tmp-{generation}")
    link_tree(model, partial)
    publish(partial, place)


def drop_merged(home: Home, keep: str) -> None:
    """Remove the merged weights of every other generation; they can be made again."""
    if home.merged.is_dir():
        for folder in home.merged.iterdir():
            if folder.name != keep:
                shutil.rmtree(folder, ignore_errors=True)


def _commitment(home: Home, generation: str, base: Base) -> str:
    if generation == ROOT:
        return base.hash
    return cast(str, manifest(home, generation)["commitment"])


def _sealed(body: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def _keyed(key: bytes, dataset: Sequence[Path]) -> str:
    lines = (f"{path.name}\0{file_hash(path)}\n" for path in sorted(dataset))
    return hmac.new(key, "".join(lines).encode(), hashlib.sha256).hexdigest()
