"""What a home holds after a rough day, against what its daemon had promised. Files enter, figures leave.

The journal is opened as by a daemon; a generation is what its adapter over its base says, computed here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ada_memory.bench.crowd import QUESTION, REPLY_TOKENS, Heard, Promise
from ada_memory.circadian.stages import NAMES
from ada_memory.engines.engine import Hardware, Sampling, open_engine
from ada_memory.errors import AdaError
from ada_memory.hippocampus.embedder import embedder_hash, resolve
from ada_memory.hippocampus.journal import Journal
from ada_memory.hippocampus.recall import may_return
from ada_memory.hippocampus.vectors import Vectors
from ada_memory.records import Interaction, Message
from ada_memory.settings import Home, Settings
from ada_memory.sovereign import generations
from ada_memory.sovereign.disk import TEMPORARY

EXACT = Hardware(device="cpu", dtype="float32", threads=1)


def read(home: Home, promised: Sequence[Promise], heard: Heard) -> dict[str, object]:
    """Lost, duplicated, served badly, unfinished: each should be 0."""
    with Journal.open(home.journal) as journal:
        journal.check()
        kept = journal.interactions(0, limit=10_000_000)
        return {
            **_kept(kept, promised, heard), **_encoded(home, journal, kept), **_nights(journal),
            "served_bad": _served_bad(home, heard), "answered": heard.answered,
            "leftovers": len([path for path in home.mind.rglob(f"{TEMPORARY}*") if path.exists()]),
        }  # fmt: skip


def _kept(kept: Sequence[Interaction], promised: Sequence[Promise], heard: Heard) -> dict[str, object]:
    """Every acknowledged text is there once, under the id that was given; others at most as often as sent."""
    ids = {each.id: _first(each) for each in kept}
    times = Counter(_first(each) for each in kept)
    acknowledged = [promise for promise in promised if promise.id is not None]
    lost = [promise for promise in acknowledged if ids.get(str(promise.id)) != promise.text]
    lost_turns = [text for text in heard.turns if not times[text]]
    return {
        "posted": sum(promise.sent for promise in promised), "acknowledged": len(acknowledged),
        "turns": len(heard.turns), "lost": len(lost) + len(lost_turns),
        "duplicated": sum(count - 1 for count in times.values()),
        "gaps": kept[-1].position - len(kept) if kept else 0,
    }  # fmt: skip


def _encoded(home: Home, journal: Journal, kept: Sequence[Interaction]) -> dict[str, object]:
    """Every interaction became memories, none twice, each with its vector in the journal and in the index."""
    memories = journal.memories()
    users = sum(any(message.role == "user" for message in each.draft.messages) for each in kept)
    twice = Counter((memory.interactions, memory.text) for memory in memories)
    embedder = embedder_hash(resolve(Settings().embedder.name))
    recallable = sum(may_return(memory) for memory in memories)
    with Vectors(home.chroma, embedder) as index:
        indexed = index.count()
    return {
        "memories": len(memories), "unencoded": journal.counts()["unencoded"],
        "memories_missing": users - len({memory.interactions for memory in memories}),
        "memories_twice": sum(count - 1 for count in twice.values()),
        "vectors_missing": len(memories) - journal.vector_count(embedder),
        "index_missing": recallable - indexed,
    }  # fmt: skip


def _nights(journal: Journal) -> dict[str, object]:
    """Every night has come to its report."""
    ended: Counter[str] = Counter()
    for night in journal.nights(1_000_000):
        stages = {stage.name: stage.outcome for stage in journal.stages(night.id)}
        last = [name for name in NAMES if name in stages and name != "report"][-1:]
        ended["unfinished" if "report" not in stages else stages[last[0]] if last else "empty"] += 1
    return {
        "nights": ended.total(), "nights_unfinished": ended["unfinished"], "nights_activated": ended["done"],
        "nights_skipped": ended["skip"], "nights_halted": ended["halt"],
    }  # fmt: skip


def _served_bad(home: Home, heard: Heard) -> int:
    """Answers that are not what their generation, computed here from its files, says."""
    return sum(
        sum(count for said, count in replies.items() if said not in _says(home, name))
        for name, replies in heard.replies.items()
    )


def _says(home: Home, generation: str) -> set[str]:
    """What base and adapter of a generation say to QUESTION, or nothing if it is broken."""
    try:
        generations.read(home, generation)
        base = next(path for path in sorted(home.bases.iterdir()) if (path / "config.json").is_file())
        engine = open_engine("auto", base, generations.adapter_folder(home, generation), EXACT)
    except (AdaError, StopIteration):
        return set()
    return {engine.generate([(Message("user", QUESTION),)], Sampling(max_tokens=REPLY_TOKENS))[0].text}


def _first(interaction: Interaction) -> str:
    return interaction.draft.messages[0].content
