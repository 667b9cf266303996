"""A night's folder. What a night reads enters through `bundle.json`; what a stage makes leaves in its folder.

A stage writes into `.tmp-<stage>/`; when it is over, `result.json` is added and the folder renamed to
`<stage>/`. So a folder with a stage's name is finished, and a night can go on in any process after any crash.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ada_memory.engines.engine import UNFINISHED
from ada_memory.errors import AdaError, BadInput
from ada_memory.records import Depth, Dream, NightKind, Outcome, Override, Read, StageName, StageRecord
from ada_memory.settings import Home, Settings
from ada_memory.sovereign.bases import Base
from ada_memory.sovereign.disk import publish, read_lines, remove, replace_text, to_json
from ada_memory.sovereign.generations import Serving, number

if TYPE_CHECKING:  # the sleeper reads bundles and must not open the journal
    from ada_memory.hippocampus.journal import Journal

BUNDLE = "bundle.json"
Emit = Callable[[dict[str, object]], None]
Clock = Callable[[], datetime]
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Done:
    """The stage did its work; the night goes on."""

    figures: Mapping[str, object] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Skip:
    """There was nothing to do; the night ends without a new generation."""

    reason: str
    figures: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Halt:
    """The night must not go on; the parent keeps serving."""

    reason: str
    figures: Mapping[str, object] = field(default_factory=dict)


Ending = Done | Skip | Halt


@dataclass(frozen=True, slots=True)
class NightBundle:
    """Everything that decides a night. Its heavy stages are a function of this and of `folder`.

    `generation` is the id that the night's generation will get. `model` is the folder that serves as the
    parent: merged weights, or `base`; only where it equals `base` does `adapter` (the parent's, None for
    gen-0000) go on it. Training always continues `adapter` over `base`.
    """

    folder: Path
    night: str
    kind: NightKind
    seed: int
    until: StageName
    parent: str
    generation: str
    model: Path
    base: Path
    base_hash: str
    adapter: Path | None
    core: Path | None
    exam: Path | None
    opened_at: datetime
    upto: int
    settings: Settings
    depth: Depth = "deep"
    died: int = 0
    """How often a process has died in the stage that is next; of this alone nothing is written down."""

    @property
    def adapter_name(self) -> str:
        """What the night's adapter is called: "nightly_adapter_v3" for gen-0003."""
        return f"nightly_adapter_v{number(self.generation)}"

    @property
    def cycles(self) -> int:
        """How many REM cycles the night has."""
        dream = self.settings.dream
        return dream.light_cycles if self.depth == "light" else dream.cycles

    def work(self, stage: StageName) -> Path:
        """The folder that a running stage writes into."""
        return self.folder / f".tmp-{stage}"

    def done(self, stage: StageName) -> Path:
        """The folder of a finished stage."""
        return self.folder / stage

    def voice(self) -> Serving:
        """What to load to speak as the parent."""
        return Serving(self.parent, self.model, self.adapter if self.model == self.base else None)


@dataclass(frozen=True, slots=True)
class Tools:
    """What the light stages need beyond the bundle; they run in the daemon.

    `patience` is how many seconds gather waits for the last interactions to be embedded.
    """

    home: Home
    journal: Journal
    base: Base
    swap: Callable[[Serving], Awaitable[None]]
    clock: Clock
    emit: Emit
    patience: float = 60.0
    stopping: Callable[[], bool] = lambda: False


def write_bundle(night: NightBundle) -> None:
    """Write `bundle.json` in one step."""
    names = (item.name for item in fields(night) if item.name not in ("folder", "died"))
    body = {name: getattr(night, name) for name in names}
    body["settings"] = night.settings.model_dump(mode="json")
    body["opened_at"] = night.opened_at.isoformat()
    replace_text(night.folder / BUNDLE, to_json(body, indent=2) + "\n")


def read_bundle(folder: Path) -> NightBundle:
    """Read the bundle of a night's folder.

    Raises:
        BadInput: there is none, or it cannot be read.
    """
    try:
        body = json.loads((folder / BUNDLE).read_text("utf-8"))
        for name in ("model", "base"):
            body[name] = Path(body[name])
        for name in ("adapter", "core", "exam"):
            body[name] = Path(body[name]) if body[name] else None
        body["opened_at"] = datetime.fromisoformat(body["opened_at"])
        body["settings"] = Settings.model_validate(body["settings"])
        return NightBundle(folder=folder.absolute(), **body)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{folder} holds no night that can be read: {error}", field="folder") from error


def read_result(night: NightBundle, stage: StageName) -> StageRecord | None:
    """How a stage ended; None if it has not ended."""
    path = night.done(stage) / "result.json"
    if not path.is_file():
        return None
    body = json.loads(path.read_text("utf-8"))
    return StageRecord(
        night=night.night,
        name=stage,
        outcome=cast(Outcome, body["outcome"]),
        reason=body["reason"],
        started_at=datetime.fromisoformat(body["started_at"]),
        finished_at=datetime.fromisoformat(body["finished_at"]),
        figures=body["figures"],
    )


def begin(night: NightBundle, stage: StageName) -> Path:
    """The folder in which a stage starts: empty but for what an interrupted training goes on from."""
    work = night.work(stage)
    for path in work.iterdir() if work.is_dir() else ():
        if path.is_dir() and path.name != UNFINISHED:
            remove(path)
        elif not path.is_dir():
            path.unlink()
    work.mkdir(parents=True, exist_ok=True)
    return work


def finish(
    night: NightBundle, stage: StageName, ending: Ending, started_at: datetime, finished_at: datetime
) -> StageRecord:
    """Publish a stage's folder with its result; returns the row that the journal should get."""
    work = night.work(stage)
    work.mkdir(parents=True, exist_ok=True)
    body = {
        "outcome": outcome_of(ending), "reason": ending.reason, "started_at": started_at.isoformat(),
        "finished_at": finished_at.isoformat(), "figures": ending.figures,
    }
    remove(work / UNFINISHED)
    (work / "result.json").write_text(to_json(body, indent=2) + "\n", "utf-8")
    publish(work, night.done(stage))
    return cast(StageRecord, read_result(night, stage))


def outcome_of(ending: Ending) -> Outcome:
    """The word for an ending."""
    return "done" if isinstance(ending, Done) else "skip" if isinstance(ending, Skip) else "halt"


def failure(stage: StageName, error: Exception) -> Halt:
    """What a stage that raised comes to: a halt that says why. The stack goes to the log."""
    log.error("stage %s failed", stage, exc_info=error)
    if not isinstance(error, AdaError):
        return Halt(f"{type(error).__name__}: {error}")
    return Halt(f"{error} ({error.hint})" if error.hint else str(error))


def stage_event(
    night: str, stage: StageName, state: str, record: StageRecord | None = None
) -> dict[str, object]:
    """The event that a stage has started or finished."""
    event: dict[str, object] = {"event": "stage", "night": night, "stage": stage, "state": state}
    if record is not None:
        event |= {"outcome": record.outcome, "reason": record.reason, "figures": dict(record.figures)}
    return event


def dream_from(row: Mapping[str, object]) -> Dream:
    """A dream from a row of `dreams.jsonl`; fields that a dream does not have are left out."""
    known = {item.name for item in fields(Dream)}
    values = {key: value for key, value in row.items() if key in known}
    values["memories"] = tuple(cast("list[str]", values.get("memories", [])))
    values["reads"] = tuple(Read(**read) for read in cast("list[dict[str, Any]]", values.get("reads", [])))
    return Dream(**values)  # type: ignore[arg-type]


def overrides_of(night: NightBundle) -> list[Override]:
    """The claims that newer memories override, as the stage `dream` found them."""
    rows = read_lines(night.done("dream") / "overrides.jsonl")
    return [Override(str(row["memory"]), str(row["claim"]), str(row["newer"])) for row in rows]
