"""What a night is about. The journal enters; the chosen memories leave, each with why it was chosen.

New memories must be salient enough, and the bar rises with the buffer. With n memories waiting and a
capacity c (64 if the capacity threshold is off):

    bar = threshold                                        n <= c
    bar = threshold + 0.25 · (1 - threshold) · (1 - c/n)   n > c

so a buffer of ordinary size is taken whole, and a flood loses its slightest memories first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ada_memory.circadian import past
from ada_memory.circadian.bundle import NightBundle
from ada_memory.circadian.past import Line
from ada_memory.hippocampus.journal import Journal
from ada_memory.records import Memory
from ada_memory.settings import Settings

PER_APP = 200
ATTEMPTS = 3
_RISE = 0.25
_DEFAULT_CAPACITY = 64
_NIGHTS_BACK = 60


@dataclass(slots=True)
class Chosen:
    """The rows of gather's three files. With a `reason` there is nothing to sleep on."""

    memories: list[dict[str, object]]
    known: list[dict[str, object]]
    skipped: list[dict[str, object]]
    figures: dict[str, object] = field(default_factory=dict)
    reason: str = ""


def bar(settings: Settings, waiting: int) -> float:
    """The salience from which a memory is taken, for a buffer of `waiting` memories."""
    least = settings.salience.threshold
    capacity = settings.sunset.capacity or _DEFAULT_CAPACITY
    return least + _RISE * (1 - least) * max(0.0, 1 - capacity / max(waiting, 1))


def choose(journal: Journal, night: NightBundle) -> Chosen:
    """Choose the memories of a night from what is in the journal up to its position."""
    before = [other for other in journal.nights(_NIGHTS_BACK) if other.id != night.night]
    before = [other for other in before if other.upto <= night.upto]
    slept_upto = before[0].upto if before else 0
    line = past.line(journal, night.parent)
    ripe, parked = _ripe(_unlearned(journal, night, line), slept_upto, bool(before))
    least = bar(night.settings, len(ripe))
    tired = {memory for memory, times in journal.times_set_aside().items() if times >= ATTEMPTS}
    slight = [memory for memory in ripe if memory.salience.score < least]
    weak = {memory.id: f"salience {memory.salience.score:.2f} is below {least:.2f}" for memory in slight}
    weak |= {memory.id: f"set aside in {ATTEMPTS} nights" for memory in ripe if memory.id in tired}
    strong = [memory for memory in ripe if memory.id not in weak]
    taken = _capped(journal, strong)
    known = past.known(journal, line, taken, asks=night.depth == "deep") if taken else []
    figures: dict[str, object] = {
        "waiting": len(ripe), "taken": len(taken), "known": len(known),
        "due": sum(bool(row["due"]) for row in known), "parked": parked, "skipped": len(weak),
        "left": len(strong) - len(taken), "threshold": round(least, 4), "upto": night.upto,
    }
    skipped: list[dict[str, object]] = [
        {"id": memory.id, "text": memory.text, "reason": weak[memory.id]}
        for memory in ripe
        if memory.id in weak
    ]
    rows = [_row(memory, _why(memory, slept_upto)) for memory in taken]
    return Chosen(rows, known, skipped, figures, "" if taken else _nothing(len(weak), parked))


def _unlearned(journal: Journal, night: NightBundle, line: Line) -> list[Memory]:
    """What waits, and what only a generation that no longer serves (after a rollback) had learned."""
    waiting = [memory for memory in journal.waiting() if memory.interactions[0] <= night.upto]
    again = journal.memories(ids=line.lost) if line.lost else []
    known = {memory.id for memory in waiting}
    waiting += [memory for memory in again if "no-train" not in memory.tags and memory.id not in known]
    return sorted(waiting, key=lambda memory: memory.interactions[0])


def _ripe(memories: Iterable[Memory], slept_upto: int, slept: bool) -> tuple[list[Memory], int]:
    """Memories whose night has come, and how many are parked: tagged `later`, they let one night pass."""
    ripe, parked = [], 0
    for memory in memories:
        if "later" in memory.tags and (not slept or memory.interactions[0] > slept_upto):
            parked += 1
        else:
            ripe.append(memory)
    return ripe, parked


def _capped(journal: Journal, memories: Sequence[Memory]) -> list[Memory]:
    """At most PER_APP memories of each app, the most salient ones, in the order given; the others wait."""
    apps: dict[int, str] = {}
    taken: Counter[str] = Counter()
    kept: set[str] = set()
    for memory in sorted(memories, key=lambda memory: (-memory.salience.score, memory.interactions[0])):
        position = memory.interactions[0]
        if position not in apps:
            apps[position] = journal.interactions(position - 1, 1)[0].draft.app
        if taken[apps[position]] < PER_APP:
            taken[apps[position]] += 1
            kept.add(memory.id)
    return [memory for memory in memories if memory.id in kept]


def _why(memory: Memory, slept_upto: int) -> str:
    if "later" in memory.tags:
        return "parked"
    return "today" if memory.interactions[0] > slept_upto else "waiting"


def _row(memory: Memory, why: str) -> dict[str, object]:
    return {
        "id": memory.id, "text": memory.text, "at": memory.at.isoformat(), "role": memory.role,
        "salience": memory.salience.score, "why": why, "tags": list(memory.tags),
    }


def _nothing(weak: int, parked: int) -> str:
    if parked:
        return "nothing waits to be learned but thoughts parked for the night after"
    if weak:
        return "nothing that waits is salient enough to be learned"
    return "nothing waits to be learned"
