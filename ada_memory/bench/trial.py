"""`ada try`: a real day and night with any model, on a throw-away home. Facts enter, figures leave.

The daemon, its socket and its night are those that anybody gets; nothing of the user's own is touched. The
home is gone when this returns or fails, unless a folder is named to keep.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from ada_memory.bench import trial_figures as made
from ada_memory.bench.gauge import Gauge
from ada_memory.bench.house import House, house
from ada_memory.cli.watch import watch
from ada_memory.dream import craft
from ada_memory.dream.examples import dreamer
from ada_memory.engines.engine import Hardware, named_engine, open_engine
from ada_memory.errors import BadInput
from ada_memory.settings import Home, ModelSettings, Settings
from ada_memory.sovereign import shelf
from ada_memory.sovereign.bases import Base, prepare_base

LEARNS = ("model", "embedder", "salience", "router", "dream", "forge", "topology")
"""The user's own settings that a trial runs with; whose mind it is and when it sleeps are its own."""
REPLY_TOKENS = 48


@dataclass(frozen=True, slots=True)
class Trial:
    """What is tried: the facts as they were typed, the user's settings, the user's home, where to keep."""

    facts: Sequence[str]
    settings: Settings
    home: Home
    keep: Path | None = None


def run(trial: Trial, console: Console) -> dict[str, Any]:
    """Try it, with progress on `console`; returns the figures, as `ada try --json` prints them.

    Raises:
        BadModel: there is no such model, or it cannot be loaded or spoken with.
        BadInput: the folder to keep is not empty.
        Unavailable: the throw-away daemon did not start, or went away.
    """
    with _home(trial.keep) as root:
        name = trial.settings.model.name
        model = trial.settings.model.model_copy(update={"name": _nearest(name, trial.home)})
        _say(console, f"Looking at {name}")
        base = prepare_base(Home(root), model)
        figures: dict[str, Any] = {"model": {"name": name}}
        figures |= _examine(base, trial.settings, figures["model"], console)
        with house(root, _flags(trial.settings, model)) as ada:
            figures |= _day_and_night(ada, trial.facts, console)
        load_seconds, forge = figures["model"]["load_seconds"], trial.settings.forge
        figures["projection"] = made.project(figures, load_seconds, forge)
        return figures | {"kept": str(root) if trial.keep else None}


@contextmanager
def _home(keep: Path | None) -> Iterator[Path]:
    """A new home; what is not to be kept goes with the block."""
    if keep is not None:
        folder = keep.expanduser().resolve()
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise BadInput(f"{folder} is not empty", hint="name a new folder with --keep", field="keep")
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="ada-try-", ignore_cleanup_errors=True) as scratch:
        yield Path(scratch).resolve()


def _nearest(name: str, home: Home) -> str:
    """A model of the hub that the user's home has already is read from there; a folder goes by its path."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return str(folder.resolve())
    known = [entry for entry in shelf.entries(home) if name in entry.sources] if "/" in name else []
    return str(shelf.place(home, known[-1].hash)) if known else name


def _flags(settings: Settings, model: ModelSettings) -> dict[str, object]:
    """Settings of the throw-away daemon: the user's where they bear on learning; it sleeps when told to."""
    changed = settings.model_dump(mode="json", include=set(LEARNS), exclude_defaults=True)
    flags = {f"{section}.{key}": value for section, table in changed.items() for key, value in table.items()}
    return {**flags, "model.name": model.name, "sunset.at": "", "sunset.capacity": 0}


def _examine(base: Base, settings: Settings, about: dict[str, Any], console: Console) -> dict[str, Any]:
    """Load the model, say what it is, and let it do the night's tasks once."""
    started = time.monotonic()
    model = settings.model
    engine = open_engine(model.engine, base.path, None, Hardware.of(model))
    about |= made.describe(base.path)
    runs = named_engine(model.engine, base.path)
    about |= {"engine": runs, "device": str(getattr(engine, "device", model.device))}
    about |= {"context": engine.limit, "load_seconds": round(time.monotonic() - started, 2)}
    _say(console, made.sentence(about))
    items = craft.read(craft.beside(base.path))
    _say(console, f"The night's own tasks, {len(items)} of them: extract, dream, verify, rewrite, supersede")
    started = time.monotonic()
    marks = craft.sit(dreamer(engine, base.path), items, settings.dream)
    took, can = round(time.monotonic() - started, 1), made.can(marks)
    for row in can.values():
        _say(console, f"  {row['says']}")
    return {"can": can, "craft_before": craft.shares(marks), "craft_seconds": took}


def _day_and_night(ada: House, facts: Sequence[str], console: Console) -> dict[str, Any]:
    _say(console, "\nDay: a daemon on a throw-away home")
    positions = []
    for text in facts:
        positions.append(int(ada.client.post(text, app="try", session="try")["position"]))
        _say(console, f"  post {text}")
    ada.wait_encoded()
    memories = ada.client.memories(limit=200)
    _say(console, "\nNight")
    with Gauge(int(ada.client.status()["pid"])) as gauge:
        night = str(ada.client.sleep()["night"])
        watch(ada.client, night, console)
        report = ada.wait_night(night)
    folder = ada.home.nights / night
    rows = made.facts(facts, positions, memories, folder, report)
    if any(row["asked"] for row in rows):
        _say(console, "\nMorning: the same questions before and after, with an empty context, recall off")
        _ask(ada, rows, bool(report.get("active")))
    return made.night(report, rows) | {"memory_mb": gauge.peaks()}


def _ask(ada: House, rows: Sequence[dict[str, Any]], active: bool) -> None:
    """Fill in what the new generation answers, then roll back and fill in what its parent does."""
    if active:
        _answers(ada, rows, "after")
        ada.client.rollback()
    _answers(ada, rows, "before")


def _answers(ada: House, rows: Sequence[dict[str, Any]], side: str) -> None:
    for question in (asked for row in rows for asked in row["asked"]):
        body = ada.client.chat(
            question["question"], recall=False, remember=False, max_tokens=REPLY_TOKENS, temperature=0
        )
        said = str(body["choices"][0]["message"]["content"]).strip()
        question |= {side: said, f"right_{side}": made.same(said, question["wanted"])}


def _say(console: Console, text: str) -> None:
    console.print(Text(text), soft_wrap=True)
