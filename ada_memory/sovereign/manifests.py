"""What a generation says of itself, and the chain that manifests make. Names enter; checked manifests leave.

A manifest is sealed by a SHA-256 over itself and names its parent's seal (`parent_commitment`); the first one
names its base's hash. So the line can be walked to its root without any key. Nothing that is sealed can be
guessed: what was learned is in it only as an HMAC under a key that lies beside it and can be destroyed.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from ada_memory.errors import AdaError, BadModel, NotFound
from ada_memory.settings import Home

ROOT = "gen-0000"


@dataclass(frozen=True, slots=True)
class Link:
    """One generation of a line. `problem` says why its place in the chain cannot be believed, if so."""

    generation: str
    problem: str = ""


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


def manifest(home: Home, generation: str) -> dict[str, object]:
    """The manifest of a generation, checked against its own seal.

    Raises:
        NotFound: there is no such generation.
        BadModel: it is damaged.
    """
    path = manifest_path(home, generation)
    if not path.is_file():
        raise NotFound(f"there is no generation {generation}", hint="`ada nights` lists them")
    try:
        body = json.loads(path.read_text("utf-8"))
        seal = body.pop("commitment")
    except (ValueError, KeyError, AttributeError) as error:
        raise BadModel(f"{path} is damaged: {error}", hint="`ada reset` returns to the base") from error
    if seal != sealed(body):
        raise BadModel(f"{path} was changed after it was written", hint="`ada reset` returns to the base")
    return {**body, "commitment": seal}


def manifest_path(home: Home, generation: str) -> Path:
    """Where the manifest lies."""
    return home.generations / generation / "manifest.json"


def sealed(body: dict[str, object]) -> str:
    """The commitment of a manifest without its own: SHA-256 in hex."""
    return hashlib.sha256(json.dumps(body, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def active(home: Home) -> str:
    """The generation that the pointer names; the base if there is no pointer.

    Raises:
        BadModel: the pointer is not a generation's name.
    """
    pointer = home.mind / "active"
    if not pointer.exists():
        return ROOT
    name = pointer.read_text("utf-8", "replace").strip()
    try:
        number(name)
    except NotFound:
        hint = "`ada reset` returns to the base"
        raise BadModel(f"{pointer} is damaged: {name[:40]!r}", hint=hint) from None
    return name


def base_of(home: Home, generation: str) -> dict[str, str]:
    """What a generation says of the base that it was grown on: `hash`, and `name` if it knows.

    Raises:
        NotFound: there is no such generation, or it is gen-0000, which is a base itself.
        BadModel: its manifest is damaged.
    """
    said = cast("dict[str, object]", manifest(home, generation)["base"])
    return {key: str(said[key]) for key in ("hash", "name") if said.get(key)}


def line(home: Home, generation: str, base_hash: str | None = None) -> list[Link]:
    """The generation and its ancestors down to gen-0000, each with what is wrong with its place in the chain.

    `base_hash` is the base that the line must stand on; without it the generation's own word counts. A line
    that cannot be walked to its end stops at the manifest that cannot be read.

    Raises:
        NotFound: there is no such generation.
    """
    number(generation)
    links: list[Link] = []
    name, promised = generation, ""
    while name != ROOT:
        try:
            body = manifest(home, name)
        except NotFound:
            if not links:
                raise
            return [*links, Link(name, "it is gone")]
        except AdaError as error:
            return [*links, Link(name, error.message)]
        base_hash = base_hash or base_of(home, name)["hash"]
        problem = _misfit(body, promised, base_hash)
        links.append(Link(name, problem))
        promised = str(body["parent_commitment"])
        below = str(body["parent"])
        if below != ROOT and number(below) >= number(name):
            return [*links, Link(below, f"{name} names it as its parent, but it is no older")]
        name = below
    broken = bool(links) and promised != base_hash
    return [*links, Link(ROOT, f"{links[-1].generation} was grown on another base" if broken else "")]


def verify_chain(home: Home, generation: str, base_hash: str | None = None) -> list[str]:
    """Walk from a generation to the root and check every link; returns the ids, gen-0000 last.

    No key is needed: the chain holds after every key was destroyed. Adapters are `read`'s to check.

    Raises:
        NotFound: there is no such generation.
        BadModel: a manifest is damaged, gone, or not the one that its child was grown on; or the line does
            not stand on `base_hash`.
    """
    links = line(home, generation, base_hash)
    for link in links:
        if link.problem:
            raise BadModel(
                f"the chain of {generation} breaks at {link.generation}: {link.problem}",
                hint="restore var/minds from a backup, or `ada rollback` to a generation below the break",
            )
    return [link.generation for link in links]


def _misfit(body: dict[str, object], promised: str, base_hash: str) -> str:
    """Why a manifest, sound in itself, is not the one that belongs here."""
    if promised and body["commitment"] != promised:
        return "its child was grown on another version of it"
    if cast("dict[str, object]", body["base"])["hash"] != base_hash:
        return "it was grown on another base"
    return ""
