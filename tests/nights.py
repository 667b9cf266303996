"""A mind in a temporary folder: a real journal, a real runner, toy stages and a voice that only listens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ada_memory.circadian.night import NightRunner
from ada_memory.circadian.stages import NAMES
from ada_memory.errors import BadModel
from ada_memory.hippocampus.journal import Journal
from ada_memory.records import Draft, Memory, Message, Role, Route, Salience
from ada_memory.settings import Home, ModelSettings, Settings
from ada_memory.sovereign.bases import Base, prepare_base
from ada_memory.sovereign.generations import Serving

TOYS = str(Path(__file__).with_name("toy_stages.py"))
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HEAVY = NAMES[1:8]


def make_package(folder: Path) -> Path:
    """A package folder as the seedling's: `model/` and `data/`."""
    model, data = folder / "model", folder / "data"
    model.mkdir(parents=True, exist_ok=True)
    data.mkdir(exist_ok=True)
    (model / "config.json").write_text("{}", "utf-8")
    (model / "model.safetensors").write_bytes(b"pristine")
    (data / "core.jsonl").write_text("", "utf-8")
    exam = [{"category": "identity"}, {"category": "facts"}, {"category": "facts"}]
    (data / "exam.jsonl").write_text("".join(json.dumps(row) + "\n" for row in exam), "utf-8")
    return folder


@dataclass
class Voice:
    """What the daemon's voice is told to load. `refuses` names generations whose probe fails."""

    spoke: list[Serving] = field(default_factory=list)
    refuses: set[str] = field(default_factory=set)

    async def swap(self, serving: Serving) -> None:
        if serving.generation in self.refuses:
            raise BadModel(f"{serving.generation} says nothing")
        self.spoke.append(serving)


class Mind:
    """Everything that a night needs, and what it said. A new `runner()` stands for a new daemon."""

    def __init__(self, root: Path, settings: Settings | None = None) -> None:
        self.home = Home(root)
        self.settings = settings or Settings()
        self.base: Base = prepare_base(self.home, ModelSettings(), make_package(root / "package"))
        self.journal = Journal.open(self.home.journal)
        self.voice = Voice()
        self.events: list[dict[str, object]] = []
        self.now = NOON

    def runner(self, stages: str = TOYS) -> NightRunner:
        return NightRunner(
            self.home, self.settings, self.journal, self.base, self.events.append, self.voice.swap,
            lambda: self.now, stages=stages, patience=5.0, pause=0.05,
        )

    def toy(self, **trouble: object) -> None:
        (self.base.path.parent / "toy.json").write_text(json.dumps(trouble), "utf-8")

    def say(
        self, text: str, *, salience: float = 0.6, app: str = "chat", tags: Sequence[str] = (),
        role: Role = "user", route: Route = "weights",
    ) -> str:
        """Append an interaction and the one memory that is made of it; returns the memory's id."""
        draft = Draft((Message(role, text),), self.now, app=app, tags=tuple(tags))
        receipt = self.journal.append(draft).result()
        memory = Memory(
            f"m{receipt.position:06d}-0", text, role, self.now, route, Salience(salience),
            (receipt.position,), tuple(tags),
        )
        self.journal.encode(receipt.position, [(memory, None)], "none").result()
        return memory.id

    def night(self, name: str) -> Path:
        return self.home.nights / name

    def report(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.night(name) / "report" / "report.json").read_text("utf-8"))
        return found

    def stages(self, name: str) -> list[tuple[str, str]]:
        return [(row.name, row.outcome) for row in self.journal.stages(name)]


async def whole_night(mind: Mind, until: Any = None) -> str:
    """Sleep by hand to the end (or to where the night is held); returns the night's id."""
    runner = mind.runner()
    night = await runner.sleep("manual", until)
    await runner.wait()
    await runner.close()
    return night.id
