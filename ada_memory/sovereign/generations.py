"""The generations of a mind. A trained adapter enters; a folder that can be checked leaves.

Each generation is `generations/<id>/`: `adapter/` (PEFT), `manifest.json` (see manifests.py) and `key`. What
was learned is committed to by an HMAC under `key`: with the key destroyed the chain still holds, and no guess
at the data can be tested. `gen-0000` is the base itself and has no folder.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import cast

from ada_memory.errors import BadModel
from ada_memory.records import Generation, Verdict
from ada_memory.settings import Home
from ada_memory.sovereign import manifests
from ada_memory.sovereign.bases import Base as Base  # noqa: PLC0414  all these are sought here too
from ada_memory.sovereign.bases import prepare_base as prepare_base  # noqa: PLC0414
from ada_memory.sovereign.disk import (
    file_hash,
    file_hashes,
    folder_hash,
    fresh,
    link_tree,
    publish,
    remove,
    replace_text,
    sync,
    to_json,
)
from ada_memory.sovereign.manifests import ROOT as ROOT  # noqa: PLC0414
from ada_memory.sovereign.manifests import active as active  # noqa: PLC0414
from ada_memory.sovereign.manifests import generation_name as generation_name  # noqa: PLC0414
from ada_memory.sovereign.manifests import manifest as manifest  # noqa: PLC0414
from ada_memory.sovereign.manifests import number as number  # noqa: PLC0414
from ada_memory.sovereign.manifests import verify_chain as verify_chain  # noqa: PLC0414

_BEGINNING = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


@dataclass(frozen=True, slots=True)
class Serving:
    """What an engine must load to speak as a generation: one folder, and perhaps an adapter on it."""

    generation: str
    model: Path
    adapter: Path | None


def next_id(home: Home) -> str:
    """The id that the next generation gets."""
    taken = [path.name for path in home.generations.glob("gen-*")] if home.generations.is_dir() else []
    return generation_name(max((number(name) for name in taken), default=0) + 1)


def adapter_folder(home: Home, generation: str) -> Path | None:
    """Where the generation's PEFT adapter lies; None for the base."""
    return None if generation == ROOT else home.generations / generation / "adapter"


def write(
    home: Home, generation: Generation, adapter_from: Path, base: Base, dataset: Sequence[Path] = (),
    core: Path | None = None,
) -> Generation:
    """Write a generation's folder in one step; if it is there already, check it and leave it.

    Returns it with `adapter` set to the SHA-256 (hex) of the adapter's files, as `read` does.
    `dataset` names the files that it was trained on; they are committed to under the key, not kept. `core`
    is the file that was replayed: it comes with the model and holds no memories, so its plain hash is named.

    Raises:
        BadModel: the adapter is empty, the parent cannot be read, or the id was given to another night.
    """
    place = home.generations / generation.id
    if place.exists():
        there = read(home, generation.id)
        if (there.night, there.parent) != (generation.night, generation.parent):
            raise BadModel(
                f"{generation.id} belongs to night {there.night} already",
                hint="var/minds holds parts of two minds: restore all of it from one backup",
            )
        return there
    parent = generation.parent or ROOT
    partial = fresh(home.generations / f".tmp-{generation.id}")
    shutil.copytree(adapter_from, partial / "adapter")
    hashes = file_hashes(partial / "adapter")
    if not any(name.endswith(".safetensors") for name in hashes):
        raise BadModel(f"{adapter_from} holds no adapter weights", hint="`ada sleep` has another night")
    key = secrets.token_bytes(32)
    body: dict[str, object] = {
        "id": generation.id, "parent": parent, "parent_commitment": _commitment(home, parent, base),
        "night": generation.night, "verdict": generation.verdict,
        "created_at": generation.created_at.isoformat(),
        "base": {"name": base.name, "hash": base.hash},
        "adapter": {"sha256": folder_hash(hashes), "files": hashes}, "dataset": _keyed(key, dataset),
        "core": file_hash(core) if core is not None and core.is_file() else None,
    }
    seal = manifests.sealed(body)
    replace_text(partial / "manifest.json", to_json({**body, "commitment": seal}, indent=2))
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


def destroy_key(home: Home, generation: str) -> None:
    """Make the generation's dataset commitment untestable for ever; the chain stays whole."""
    path = home.generations / generation / "key"
    if path.is_file():
        path.write_bytes(b"0" * path.stat().st_size)
        sync(path)
        path.unlink()
        sync(path.parent)


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
    grown_on = manifests.base_of(home, generation)
    if grown_on["hash"] != base.hash:
        name, short = grown_on.get("name", "a base without a name"), grown_on["hash"][:12]
        raise BadModel(
            f"{generation} was grown on another base ({name}, {short}), not on {base.name} {base.hash[:12]}",
            hint=f"set model.name to {short} to go back to it, or `ada reset` to start from the new one",
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
                remove(folder)


def _commitment(home: Home, generation: str, base: Base) -> str:
    if generation == ROOT:
        return base.hash
    return cast(str, manifest(home, generation)["commitment"])


def _keyed(key: bytes, dataset: Sequence[Path]) -> str:
    lines = (f"{path.name}\0{file_hash(path)}\n" for path in sorted(dataset))
    return hmac.new(key, "".join(lines).encode(), hashlib.sha256).hexdigest()
