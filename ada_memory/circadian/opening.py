"""How a night begins. A record and the sovereign enter; the bundle in the night's folder leaves."""

from __future__ import annotations

import dataclasses
import hashlib

from ada_memory.circadian.bundle import NightBundle, read_bundle, read_result, write_bundle
from ada_memory.circadian.stages import NAMES, STAGES, position
from ada_memory.errors import BadInput
from ada_memory.records import NightRecord, StageName
from ada_memory.settings import Home, Settings
from ada_memory.sovereign import cores, generations
from ada_memory.sovereign.bases import Base
from ada_memory.sovereign.disk import append_line


def seed_of(mind: str, night: str) -> int:
    """The seed of a night: 31 bits that follow from whose night it is."""
    return int.from_bytes(hashlib.sha256(f"{mind}/{night}".encode()).digest()[:4]) >> 1


def free(name: str, taken: set[str]) -> str:
    """`name`, or if a night had it already the first of `name-2`, `name-3`, … that none had."""
    if name not in taken:
        return name
    return next(f"{name}-{turn}" for turn in range(2, len(taken) + 3) if f"{name}-{turn}" not in taken)


def bundle(
    home: Home, settings: Settings, base: Base, record: NightRecord, until: StageName | None
) -> NightBundle:
    """The night's bundle: the one on disk, with `until` changed, or a new one.

    Raises:
        BadModel: the parent cannot be read.
        OSError: the bundle cannot be written.
    """
    try:
        night = read_bundle((home.nights / record.id).absolute())
    except BadInput:
        night = _new(home, settings, base, record)
        write_bundle(night)
    if until is not None and night.until != until:
        night = dataclasses.replace(night, until=until)
        write_bundle(night)
    return night


def _new(home: Home, settings: Settings, base: Base, record: NightRecord) -> NightBundle:
    voice = generations.serving(home, base, record.parent)
    return NightBundle(
        folder=(home.nights / record.id).absolute(),
        night=record.id,
        kind=record.kind,
        seed=record.seed,
        until=NAMES[-1],
        parent=record.parent,
        generation=generations.next_id(home),
        model=voice.model,
        base=base.path,
        base_hash=base.hash,
        adapter=generations.adapter_folder(home, record.parent),
        core=cores.for_night(home, base, (home.nights / record.id).absolute()),
        exam=base.exam,
        opened_at=record.opened_at,
        upto=record.upto,
        settings=settings,
        depth=record.depth,
    )


def is_held(night: NightBundle) -> bool:
    """Whether a night has been run by hand as far as was asked, and well."""
    asked = [read_result(night, stage.name) for stage in STAGES[: position(night.until) + 1]]
    return night.until != NAMES[-1] and all(record and record.outcome == "done" for record in asked)


def starts(night: NightBundle, stage: StageName) -> int:
    """How often a stage has been started, this time included; kept with the night, whoever runs it."""
    path = night.folder / "starts.log"
    append_line(path, stage)
    return path.read_text("utf-8").splitlines().count(stage)
