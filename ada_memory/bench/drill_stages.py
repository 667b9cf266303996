"""The heavy stages for a model that cannot dream: dreams are written by rote, all the rest is the real thing.

Dataset, training, merge, map and verdict are those of every night. Now and then a night is rejected, so that
this way out of a night is walked too. Run as a program it is a daemon whose nights are such.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace

import circadian_daemon
from ada_memory.circadian import heavy
from ada_memory.circadian.bundle import Done, Emit, Ending, Halt, NightBundle, dream_from
from ada_memory.records import Dream, DreamKind
from ada_memory.sovereign.disk import read_lines, write_lines

ASKED = (
    "What was said of {}?", "Please tell {} again.", "Do you still know {}?", "How did {} go?",
    "Whose story is {}?", "Which words had {} that day?",
)  # fmt: skip
"""Questions unlike each other, so that a night can hold some out."""
KINDS: tuple[DreamKind, ...] = ("question", "statement", "question", "question", "reversal", "question")
REJECTED = 4
"""One night in so many is rejected."""

LINGER_SECONDS = 0.25
"""How long a stage's half-made folder lies there: they are over too soon to be killed in."""


def _lingering(stage: Callable[[NightBundle, Emit], Ending]) -> Callable[[NightBundle, Emit], Ending]:
    def run(night: NightBundle, emit: Emit) -> Ending:
        ending = stage(night, emit)
        time.sleep(LINGER_SECONDS)
        return ending

    return run


dataset, train = _lingering(heavy.dataset), _lingering(heavy.train)
merge, map_ = _lingering(heavy.merge), _lingering(heavy.map_)


@_lingering
def dream(night: NightBundle, emit: Emit) -> Ending:
    """One claim a memory: its text; one dream of it for each of KINDS."""
    memories = read_lines(night.done("gather") / "memories.jsonl")
    work = night.work("dream")
    claims = [{"memory": row["id"], "claim": row["text"], "wish": False} for row in memories]
    write_lines(work / "claims.jsonl", claims)
    write_lines(work / "superseded.jsonl", [])
    dreams = [
        Dream(f"d{number:05d}-{turn}", kind, (str(row["id"]),), str(row["text"]),
              ASKED[turn].format(row["id"]), str(row["text"])[:40], 0)
        for number, row in enumerate(memories)
        for turn, kind in enumerate(KINDS)
    ]  # fmt: skip
    write_lines(work / "dreams.jsonl", map(asdict, dreams))
    emit({"event": "progress", "night": night.night, "stage": "dream", "done": 1, "total": 1, "note": ""})
    return Done({"memories": len(memories), "claims": len(claims), "dreams": len(dreams)})


@_lingering
def verify(night: NightBundle, emit: Emit) -> Ending:
    """Every dream is a memory's own words, and so accepted."""
    dreams = [dream_from(row) for row in read_lines(night.done("dream") / "dreams.jsonl")]
    judged = [replace(each, accepted=True, score=1.0) for each in dreams]
    write_lines(night.work("verify") / "dreams.jsonl", map(asdict, judged))
    write_lines(night.work("verify") / "superseded.jsonl", [])
    return Done({"made": len(judged), "accepted": len(judged), "lucidity": [1.0]})


@_lingering
def verdict(night: NightBundle, emit: Emit) -> Ending:
    """The table of rules; and one night in REJECTED is refused whatever it says."""
    ending = heavy.verdict(night, emit)
    if isinstance(ending, Done) and night.seed % REJECTED == 0:
        return Halt("rejected: this is a drill", {**ending.figures, "verdict": "reject"})
    return ending


if __name__ == "__main__":
    sys.exit(circadian_daemon.main(stages="ada_memory.bench.drill_stages"))
