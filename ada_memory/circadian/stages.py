"""The table of a night's stages, in order, and where each is run.

Light stages need the journal and run in the daemon (daylight.py). Heavy ones need the model and run in the
one sleeper child; they read and write only the night's folder.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from ada_memory.circadian.bundle import Emit, Ending, NightBundle
from ada_memory.errors import BadInput
from ada_memory.records import StageName

HEAVY = "ada_memory.circadian.heavy"


@dataclass(frozen=True, slots=True)
class Stage:
    """One row of the table. `function` is its name in the module that it runs from."""

    name: StageName
    heavy: bool
    function: str


STAGES: tuple[Stage, ...] = (
    Stage("gather", False, "gather"),
    Stage("dream", True, "dream"),
    Stage("verify", True, "verify"),
    Stage("dataset", True, "dataset"),
    Stage("train", True, "train"),
    Stage("merge", True, "merge"),
    Stage("map", True, "map_"),
    Stage("verdict", True, "verdict"),
    Stage("activate", False, "activate"),
    Stage("report", False, "report"),
)
NAMES: tuple[StageName, ...] = tuple(stage.name for stage in STAGES)


def position(name: str) -> int:
    """The place of a stage in the table, from 0.

    Raises:
        BadInput: there is no such stage.
    """
    if name not in NAMES:
        raise BadInput(f"there is no stage {name!r}", hint=f"one of {', '.join(NAMES)}", field="until")
    return NAMES.index(name)


def run_stage(name: StageName, night: NightBundle, emit: Emit, module: str = HEAVY) -> Ending:
    """Run one heavy stage from a module, named as imported or by the path of its file."""
    stage = STAGES[position(name)]
    ending: Ending = getattr(_load(module), stage.function)(night, emit)
    return ending


def _load(module: str) -> ModuleType:
    if not module.endswith(".py"):
        return importlib.import_module(module)
    path = Path(module)
    if path.stem not in sys.modules:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None:
            raise BadInput(f"{path} cannot be imported", field="stages")
        loaded = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = loaded
        spec.loader.exec_module(loaded)
    return sys.modules[path.stem]
