"""What lies near to what is taught and must stay as it is: prompts with what the base says to them.

In: a night, its dataset, the core, the base, the parent. Out: rows on which the model is held to its base,
each with its slack. What is near to a memory only has to go on saying no and may move further than the rest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ada_memory.circadian import rehearsal
from ada_memory.circadian.bundle import NightBundle
from ada_memory.engines.engine import Speaker
from ada_memory.forge.dataset import Dataset, prompt_of
from ada_memory.forge.neighbours import asides, neighbours, strangers
from ada_memory.forge.phrasings import normalise
from ada_memory.records import Chat, Sample
from ada_memory.settings import ForgeSettings
from ada_memory.sovereign.disk import read_lines
from ada_memory.topology.survey import Say

ASTRAY_TURNS = 3
"""How often an aside that the parent answers otherwise comes, for each time that another anchor does."""


@dataclass(frozen=True, slots=True)
class Held:
    """Rows as the base answers them; `astray` are those asides that the parent answers otherwise."""

    neighbours: tuple[Sample, ...] = ()
    strangers: tuple[Sample, ...] = ()
    asides: tuple[Sample, ...] = ()
    astray: tuple[Sample, ...] = ()

    def anchors(self, settings: ForgeSettings) -> tuple[Sample, ...]:
        """The rows as anchors with their slack; what has gone astray takes several turns."""
        near = (*self.astray * (ASTRAY_TURNS - 1), *self.asides, *self.neighbours)
        return (
            *(replace(row, slack=settings.slack_near) for row in near),
            *(replace(row, slack=settings.slack) for row in self.strangers),
        )

    def figures(self) -> dict[str, object]:
        """How many there are of each."""
        return {
            "neighbours": len(self.neighbours), "strangers": len(self.strangers), "asides": len(self.asides),
            "asides_astray": len(self.astray),
        }  # fmt: skip


def held(  # noqa: PLR0913  what is near to what, as whom it is answered, and who is told
    night: NightBundle,
    built: Dataset,
    core: Sequence[Sample],
    base: Speaker,
    parent: Speaker | None,
    say: Say,
) -> Held:
    """What the model is held to tonight, but for what is kept out of training."""
    forge = night.settings.forge
    never = withheld(forge) | {prompt_of(row) for row in built.stop}

    def allowed(chat: Chat) -> bool:
        return normalise(chat[0].content) not in never

    near = list(filter(allowed, neighbours(built.train, core, forge.neighbours, night.seed)))
    far = list(filter(allowed, strangers(built.train, core, night.seed))) if forge.neighbours else []
    others = [aside for aside in asides(built.train, core, forge.asides, night.seed) if allowed(aside.chat)]
    if not near and not far and not others:
        return Held()
    say("asking the base what must stay as it is")
    known = read_lines(night.done("gather") / "known.jsonl")
    told, accept = _told(night, known, built.train), night.settings.dream.accept
    untold = rehearsal.unsaid(base, others, told, accept)
    say(f"looking for answers that have gone astray among {len(untold)}")
    strayed = rehearsal.strayed(parent, untold) if parent else []
    right = rehearsal.borne_out(base, strayed, rehearsal.answers(known), accept)
    return Held(
        tuple(rehearsal.answered(base, near)),
        tuple(rehearsal.answered(base, far)),
        tuple(row for row in untold if row not in right),
        tuple(row for row, _ in strayed if row not in right),
    )


def withheld(forge: ForgeSettings) -> frozenset[str]:
    """The prompts that no sample may hold, normalised."""
    lines = Path(forge.withhold).read_text("utf-8").splitlines() if forge.withhold else []
    return frozenset(map(normalise, lines))


def _told(
    night: NightBundle, known: Iterable[Mapping[str, Any]], trained: Iterable[Sample]
) -> Mapping[str, Collection[str]]:
    """Every memory that was learned (`known`) or is, oldest first, and what it is asked."""
    asked: dict[str, list[str]] = defaultdict(list)
    for row in trained:
        for memory in row.memories:
            asked[memory].append(row.messages[-2].content)
    rows = (*known, *read_lines(night.done("gather") / "memories.jsonl"))
    return {str(row["text"]): asked[str(row["id"])] for row in rows}
