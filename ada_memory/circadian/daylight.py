"""The light stages of a night, run by the daemon: gather (from the journal), activate, report.

A bundle and the daemon's tools enter; files in the stage's own folder and rows in the journal leave. Each
may be run again after a crash and comes to the same end.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from ada_memory.circadian import gather as gathering
from ada_memory.circadian import morning
from ada_memory.circadian.bundle import Done, Ending, Halt, NightBundle, Skip, Tools, read_result
from ada_memory.hippocampus.ledger import Settled
from ada_memory.hippocampus.rehearsal import Review
from ada_memory.records import Generation, StageName, Verdict
from ada_memory.sovereign import generations, succession
from ada_memory.sovereign.disk import read_lines, remove, to_json, write_lines

_POLL_SECONDS = 0.1
Light = Callable[[NightBundle, Tools], Awaitable[Ending]]


async def gather(night: NightBundle, tools: Tools) -> Ending:
    """Choose what the night is about: `memories.jsonl`; `known.jsonl`, what was learned before it; and
    `skipped.jsonl` for what is too slight."""
    await _encoded(night, tools)
    chosen = await asyncio.to_thread(gathering.choose, tools.journal, night)
    work = night.work("gather")
    write_lines(work / "memories.jsonl", chosen.memories)
    write_lines(work / "known.jsonl", chosen.known)
    write_lines(work / "skipped.jsonl", chosen.skipped)
    if chosen.reason:
        return Skip(chosen.reason, chosen.figures)
    return Done(chosen.figures)


async def activate(night: NightBundle, tools: Tools) -> Ending:
    """Write the generation, let it serve, and settle what became of the memories."""
    found = await asyncio.to_thread(_approved, night, tools)
    if isinstance(found, Halt):
        return found
    verdict, adapter = found
    outcomes = await asyncio.to_thread(settle_outcomes, night)
    generation = await asyncio.to_thread(_write, night, tools, verdict, adapter)
    taught = await asyncio.to_thread(_taught, night)
    await asyncio.wrap_future(tools.journal.record_generation(generation, *taught))
    await asyncio.wrap_future(tools.journal.record_reviews(_reviews(night)))
    await succession.activate(
        tools.home, tools.journal, tools.base, generation.id, tools.swap, f"night {night.night}", tools.clock,
        after=night.parent,
    )
    await asyncio.wrap_future(tools.journal.settle(night.night, outcomes))
    (night.work("activate") / "settled.json").write_text(to_json(outcomes, indent=2) + "\n", "utf-8")
    tools.emit({"event": "active", "generation": generation.id})
    counts = Counter(str(outcome) for outcome, _ in outcomes.values())
    return Done({"generation": generation.id, "verdict": verdict, "parent": night.parent, **counts})


async def report(night: NightBundle, tools: Tools) -> Ending:
    """Write the morning report; then let go of the night's merged weights, which can be made again."""
    if unread := await asyncio.to_thread(_unread, night):
        await asyncio.wrap_future(tools.journal.settle(night.night, unread))
    made = await asyncio.to_thread(morning.write, night, night.work("report"), tools.home.experiments)
    for stage in ("merge", "verdict"):
        await asyncio.to_thread(remove, night.folder / stage / "model")
    return Done({name: made[name] for name in ("verdict", "active", "generation")})


LIGHT: Mapping[StageName, Light] = {"gather": gather, "activate": activate, "report": report}


async def _encoded(night: NightBundle, tools: Tools) -> None:
    """Wait, within reason, until the interactions of the night have become memories."""
    for _ in range(round(tools.patience / _POLL_SECONDS)):
        first = await asyncio.to_thread(tools.journal.unencoded, 1)
        if tools.stopping() or not first or first[0].position > night.upto:
            return
        await asyncio.sleep(_POLL_SECONDS)


def _approved(night: NightBundle, tools: Tools) -> tuple[Verdict, Path] | Halt:
    """The verdict and the adapter that it lets serve. Whatever is missing or has changed is a refusal."""
    record = read_result(night, "verdict")
    verdict = record.figures.get("verdict") if record and record.outcome == "done" else None
    if verdict == "activate":
        adapter = night.done("train") / night.adapter_name
    elif verdict == "reduced":
        adapter = night.done("verdict") / "adapter"
    else:
        return Halt(f"no verdict lets the new model serve (verdict: {verdict})")
    if not (adapter / "adapter_model.safetensors").is_file():
        missing = adapter.relative_to(night.folder)
        return Halt(f"the verdict is {verdict}, but there is no adapter in {missing}")
    if tools.base.hash != night.base_hash:
        return Halt("another base model was put in place during the night")
    serves = generations.active(tools.home)
    if serves not in (night.parent, night.generation):
        return Halt(f"{serves} was put in place during the night, which grew from {night.parent}")
    return ("activate" if verdict == "activate" else "reduced"), adapter


def _write(night: NightBundle, tools: Tools, verdict: Verdict, adapter: Path) -> Generation:
    draft = Generation(night.generation, night.parent, night.night, None, tools.clock(), verdict)
    dataset = sorted(night.done("dataset").glob("*.jsonl"))
    written = generations.write(tools.home, draft, adapter, tools.base, dataset, night.core)
    # A reduced adapter is not what merge/ was made of.
    merged = night.done("merge" if verdict == "activate" else "verdict") / "model"
    if merged.is_dir():
        generations.cache_merged(tools.home, night.generation, merged)
    return written


def _taught(night: NightBundle) -> tuple[list[str], list[str]]:
    """Ids of the dreams that the generation was trained on, and of those that told when to stop."""
    parts = [
        [str(row["dream"]) for row in read_lines(night.done("dataset") / f"{part}.jsonl") if row.get("dream")]
        for part in ("train", "stop")
    ]
    if not any(parts):  # a dataset of before rows knew their dreams
        dreams = read_lines(night.done("verify") / "dreams.jsonl")
        parts[0] = [str(row["id"]) for row in dreams if row.get("accepted")]
    return parts[0], parts[1]


def _reviews(night: NightBundle) -> list[Review]:
    """How well what was due was known when the night began."""
    rows = read_lines(night.done("dataset") / "reviews.jsonl")
    return [
        Review(night.night, str(row["memory"]), int(str(row["asked"])), int(str(row["right"])))
        for row in rows
    ]


def settle_outcomes(night: NightBundle) -> dict[str, tuple[Settled, str]]:
    """What the night made of each memory: learned, superseded, skipped or set aside, with the reason."""
    gathered = _pairs(night.done("gather") / "memories.jsonl", "id", "why")
    superseded = _pairs(night.done("verify") / "superseded.jsonl", "memory", "reason")
    claimed = _pairs(night.done("dream") / "claims.jsonl", "memory", "claim")
    trained = read_lines(night.done("dataset") / "train.jsonl")
    samples = Counter(own for own, _ in {(_own(row.get("memories")), row.get("dream")) for row in trained})
    failures = _failures(night)
    outcomes: dict[str, tuple[Settled, str]] = {}
    for memory, reason in _pairs(night.done("gather") / "skipped.jsonl", "id", "reason").items():
        outcomes[memory] = ("skipped", reason)
    for memory, reason in superseded.items():  # among them some that earlier nights had learned
        outcomes[memory] = ("superseded", reason)
    for memory in gathered:
        if memory in superseded:
            continue
        if samples[memory]:
            outcomes[memory] = ("learned", f"{samples[memory]} samples")
        elif memory not in claimed:
            outcomes[memory] = ("skipped", "the model found no claim in it")
        else:
            outcomes[memory] = ("set_aside", failures.get(memory, "no dream of it was accepted"))
    return outcomes


def _unread(night: NightBundle) -> dict[str, tuple[Settled, str]]:
    """What a night of which nothing else came says of its memories: they call for no other night."""
    dreamt = read_result(night, "dream")
    if dreamt is None or dreamt.outcome != "skip":
        return {}
    gathered = _pairs(night.done("gather") / "memories.jsonl", "id", "why")
    return {memory: ("set_aside", dreamt.reason) for memory in gathered}


def _failures(night: NightBundle) -> dict[str, str]:
    """The commonest reason for which the dreams of each memory failed."""
    reasons: dict[str, Counter[str]] = {}
    for row in read_lines(night.done("verify") / "dreams.jsonl"):
        if not row.get("accepted") and row.get("reason"):
            reasons.setdefault(_own(row.get("memories")), Counter())[str(row["reason"])] += 1
    return {memory: counts.most_common(1)[0][0] for memory, counts in reasons.items()}


def _pairs(path: Path, key: str, value: str) -> dict[str, str]:
    """Two fields of each row of a JSONL file, as text."""
    return {str(row[key]): str(row.get(value, "")) for row in read_lines(path)}


def _own(memories: object) -> str:
    """The memory that a dream or a sample belongs to: the first of those that were read for it."""
    return str(memories[0]) if isinstance(memories, list) and memories else ""

