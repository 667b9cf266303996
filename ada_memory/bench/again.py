"""`ada bench again 20`: one night of a life once more, with something changed.

A home that `ada bench nights` has kept enters, figures leave; nothing of the home is changed. The night's
dreams and its parent's adapter are taken as they were, dataset and training are done anew, and the same
questions are asked. So what one change brings to a late night is known in minutes. Who tunes by a home's
questions has used them up: judge by another seed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ada_memory import settings as config
from ada_memory.bench import day as days
from ada_memory.bench import nights
from ada_memory.bench.night import say
from ada_memory.circadian.bundle import NightBundle, read_bundle, read_result
from ada_memory.circadian.sleeper import sleep
from ada_memory.circadian.stages import HEAVY
from ada_memory.engines.engine import Hardware, open_engine
from ada_memory.errors import AdaError, BadInput
from ada_memory.records import StageName
from ada_memory.seedling import exam
from ada_memory.settings import Home, Settings
from ada_memory.sovereign.disk import read_lines

KEPT: tuple[StageName, ...] = ("gather", "dream", "verify")
"""Stages that are taken as they were; those that follow are slept again."""


def run(
    home: Path, night: int, order: int = 0, settings: Mapping[str, str] | None = None
) -> dict[str, object]:
    """Train the night again; returns the figures, and under "then" those of the night itself.

    Another `order` draws another order of rows and other strangers: how much is chance.

    Raises:
        BadInput: the home holds no such night, or not what it was made of.
        BadSetting: a setting is unknown or cannot be used.
    """
    place = Home(home.resolve())
    lines: list[dict[str, Any]] = read_lines(place.root / nights.DIARY)
    head, *rows = lines or [{}]
    if not 1 <= night <= len(rows):
        hint = "--home names a home that such a run was kept in"
        raise BadInput(f"{home} holds {len(rows)} nights of `ada bench nights`", hint=hint)
    seed = int(head["seed"])
    taught = days.calendar(night, int(head["facts_per_night"]), seed)
    then = rows[night - 1]
    old = read_bundle(place.nights / str(then["name"]))
    with tempfile.TemporaryDirectory(prefix="ada-bench-") as scratch:
        kept_back = days.keep_back([item for day in taught for item in day], Path(scratch))
        chosen = _changed(old.settings, {**(settings or {}), "forge.withhold": str(kept_back)})
        # the parent speaks as base and adapter: its merged weights are long gone
        again = replace(
            old, folder=Path(scratch) / old.night, seed=old.seed + order, model=old.base, settings=chosen
        )
        began = time.monotonic()
        trained = _repeat(old, again)
        seconds = time.monotonic() - began
        adapter = again.done("train") / again.adapter_name
        engine = open_engine(chosen.model.engine, again.base, adapter, Hardware.of(chosen.model))
        found = nights.ask(engine, taught, exam.core_exam("judge", seed, nights.EXAM_SCALE), seed)
        return {
            "night": night, "seed": seed, "order": order, "settings": dict(settings or {}), **found,
            "probability": round(days.probability(engine, nights.questions(taught)), 4), **trained,
            "seconds": round(seconds, 1), "then": {name: then.get(name) for name in (*found, *trained)},
        }  # fmt: skip


def _changed(kept: Settings, flags: Mapping[str, str]) -> Settings:
    """The settings of a night with some of them changed."""
    own = {f"{section}.{key}": value for section, values in kept for key, value in values}
    return config.load(Path(os.devnull), {}, {**own, **flags})


def _repeat(old: NightBundle, again: NightBundle) -> dict[str, object]:
    """Dataset and training in a folder of their own; returns what tells trainings apart.

    Raises:
        BadInput: the night's dreams were cleared away.
        AdaError: a stage failed.
    """
    for stage in KEPT:
        if not old.done(stage).is_dir():
            raise BadInput(f"night {old.night} has no {stage} any more: it was cleared away")
        shutil.copytree(old.done(stage), again.done(stage))
    sleep(again, "train", _tell, HEAVY)
    record = next(found for stage in ("train", "dataset") if (found := read_result(again, stage)))
    if record.outcome != "done":
        raise AdaError(f"{record.name} ended: {record.reason}")
    return {name: record.figures.get(name) for name in ("steps", "epochs", "mends", "stop_recall")}


def _tell(event: dict[str, object]) -> None:
    if event.get("state") == "started":
        say(f"{event['stage']} of night {event['night']}, once more")
