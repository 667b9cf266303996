"""The heavy stages of a night, run by the sleeper child: each needs the model, none the journal.

Every function reads finished folders of its night, writes into its own, and says how it ended.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ada_memory.circadian import holding, rehearsal
from ada_memory.circadian.bundle import (
    Done,
    Emit,
    Ending,
    Halt,
    NightBundle,
    Skip,
    dream_from,
    overrides_of,
)
from ada_memory.dream import craft, rem
from ada_memory.dream.examples import dreamer
from ada_memory.dream.generator import DreamGenerator, Reading
from ada_memory.dream.prompts import Claim
from ada_memory.engines.engine import Engine, Hardware, Step, open_engine
from ada_memory.engines.weights import scale_adapter
from ada_memory.errors import BadInput
from ada_memory.forge import dataset as forge_dataset
from ada_memory.forge import train as forge_train
from ada_memory.forge.merge import fidelity
from ada_memory.records import Dream, Override, Verdict
from ada_memory.sovereign.disk import read_lines, write_lines
from ada_memory.topology import exam, survey
from ada_memory.topology import verdict as judging
from ada_memory.topology.survey import Say

STRENGTH = 0.5
"""How far an adapter that disturbs too much is scaled down before it is judged once more."""


def dream(night: NightBundle, emit: Emit) -> Ending:
    """Read the claims out of the memories, then dream of them in several REM cycles."""
    say = _teller(night, "dream", emit)
    memories = read_lines(night.done("gather") / "memories.jsonl")
    say(f"reading {len(memories)} memories")
    generator = _generator(night)
    readings = generator.read([(str(m["id"]), str(m["text"])) for m in memories])
    near = past_readings(read_lines(night.done("gather") / "known.jsonl"))
    say("comparing what they claim with what is known")
    superseded = generator.superseded(readings, near)
    claims = [(r.memory, c) for r in readings for c in r.claims if (r.memory, c.text) not in superseded]
    work = night.work("dream")
    write_lines(work / "claims.jsonl", [{"memory": m, "claim": c.text, "wish": c.wish} for m, c in claims])
    past = {reading.memory: reading for found in near.values() for reading in found}
    write_lines(work / "superseded.jsonl", _superseded([*past.values(), *readings], superseded))
    rows = [Override(memory, claim, newer) for (memory, claim), newer in superseded.items()]
    write_lines(work / "overrides.jsonl", map(asdict, rows))
    if not claims:
        return Skip(
            "the model found nothing to learn in the memories", {"memories": len(memories), "claims": 0}
        )
    dreams = rem.dreamt(generator, claims, night.cycles, _counter(night, "dream", emit))
    write_lines(work / "dreams.jsonl", map(asdict, dreams))
    made = Counter(d.cycle for d in dreams)
    return Done(
        {
            "memories": len(memories),
            "claims": len(claims),
            "superseded": len(superseded),
            "dreams": len(dreams),
            "dreams_by_cycle": [made[c] for c in range(night.cycles)],
        }
    )


def verify(night: NightBundle, emit: Emit) -> Ending:
    """Check every dream; rewrite failures; dream again of memories that have too few good ones."""
    texts = {str(m["id"]): str(m["text"]) for m in read_lines(night.done("gather") / "memories.jsonl")}
    claims = _claims(night)
    dreams = [dream_from(row) for row in read_lines(night.done("dream") / "dreams.jsonl")]
    generator = _generator(night)

    def show(dream: Dream) -> None:
        emit(
            {
                "event": "dream",
                "night": night.night,
                "dream": asdict(dream),
                "memory_text": texts[dream.memories[0]],
            }
        )

    judged = rem.verified(generator, dreams, claims, texts, show, _counter(night, "verify", emit))
    work = night.work("verify")
    write_lines(work / "dreams.jsonl", map(asdict, judged))
    write_lines(work / "superseded.jsonl", read_lines(night.done("dream") / "superseded.jsonl"))
    figures = rem.figures(judged, night.cycles)
    if not figures["accepted"]:
        return Halt("the verifier accepted no dream", figures)
    return Done(figures)


def dataset(night: NightBundle, emit: Emit) -> Ending:
    """Accepted dreams, samples of what is known, and a fifth of core become rows of training data."""
    dreams = [dream_from(row) for row in read_lines(night.done("verify") / "dreams.jsonl")]
    salience = {
        str(m["id"]): float(str(m["salience"])) for m in read_lines(night.done("gather") / "memories.jsonl")
    }
    if night.core is None:
        return Halt("there is no core to replay for this model", {})
    settings, core = night.settings.forge, forge_dataset.read_rows(night.core)
    overridden = {(row.memory, row.claim) for row in overrides_of(night)}
    known = rehearsal.known(read_lines(night.done("gather") / "known.jsonl"), overridden)
    say = _teller(night, "dataset", emit)
    say(f"asking for what is due of {len(known)} known memories")
    parent = _voice(night) if night.adapter else None  # who was taught nothing has nothing due, or mixed up
    reviews = rehearsal.review(parent, known) if parent else {}
    built = forge_dataset.build(
        [d for d in dreams if d.accepted], salience, core, settings, holding.withheld(settings), night.seed,
        rehearsal.graded(known, reviews),
    )
    if not any(row.source == "new" for row in built.stop):
        lacking = "too few questions came of these memories: none could tell whether they are learned"
        return Halt(lacking, built.figures)
    held = holding.Held()
    if settings.drift_weight:  # else nothing would be held, and the base need not be loaded
        held = holding.held(night, built, core, dreamer(_base(night), night.base), parent, say)
    anchors = (*held.anchors(settings), *built.anchors)
    forge_dataset.write(replace(built, anchors=anchors), night.work("dataset"))
    write_lines(night.work("dataset") / "reviews.jsonl", rehearsal.rows(reviews))
    return Done({**built.figures, **rehearsal.figures(reviews), **held.figures()})


def train(night: NightBundle, emit: Emit) -> Ending:
    """Train the night's adapter: the parent's, carried on, or the first."""
    built = forge_dataset.read(night.done("dataset"))
    engine = open_engine(night.settings.model.engine, night.base, night.adapter, _hardware(night))

    progress = _counter(night, "train", emit)

    def watch(step: Step) -> bool:
        emit({"event": "step", "night": night.night, **asdict(step)})
        progress(step.step, step.steps, f"loss {step.loss:.3f}")
        return False

    figures = forge_train.train(
        engine, built, night.settings.forge, night.seed, night.work("train") / night.adapter_name, watch
    )
    return Done(figures)


def merge(night: NightBundle, emit: Emit) -> Ending:
    """Merge base and adapter, then prove that the merged model is the adapted one."""
    name, hardware = night.settings.model.engine, _hardware(night)
    say = _teller(night, "merge", emit)
    adapter = night.done("train") / night.adapter_name
    merged = night.work("merge") / "model"
    say("writing base and adapter as one model")
    open_engine(name, night.base, adapter, hardware).merge(merged)
    say("comparing it with base and adapter")
    chats = [row.messages[:-1] for row in forge_dataset.read(night.done("dataset")).train[:64]]
    proof = fidelity(
        open_engine(name, merged, None, hardware), open_engine(name, night.base, adapter, hardware), chats
    )
    if not (proof["kl"] <= 0.01 and proof["top1"] >= 0.98):
        return Halt("the merged model is not the model that was trained", proof)
    return Done(proof)


def map_(night: NightBundle, emit: Emit) -> Ending:
    """Survey the new model beside its parent: weights, behaviour, exam, recall."""
    figures = _survey(night, night.done("merge") / "model", _teller(night, "map", emit))
    (night.work("map") / "map.json").write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    return Done(figures)


def verdict(night: NightBundle, emit: Emit) -> Ending:
    """One table of rules decides whether the new model may serve, at full strength or a reduced one."""
    figures = json.loads((night.done("map") / "map.json").read_text("utf-8"))
    verdict, rules = judging.judge(figures, night.settings.topology)
    if verdict == "reject" and judging.too_strong(rules):
        reduced, again = _reduced(night, _teller(night, "verdict", emit))
        if reduced == "reduced":
            verdict, rules = reduced, again
    made: dict[str, object] = {"verdict": verdict, "rules": [asdict(r) for r in rules]}
    if verdict == "reject":
        broken = "; ".join(f"{r.figure} = {r.shown} (limit {r.limit:g}): {r.why}" for r in rules if not r.ok)
        return Halt(f"rejected: {broken}", made)
    return Done(made | ({"strength": STRENGTH} if verdict == "reduced" else {}))


def _reduced(night: NightBundle, say: Say) -> tuple[Verdict, list[judging.Rule]]:
    """The verdict on the adapter scaled down; leaves `adapter` and `model` for activation."""
    work = night.work("verdict")
    scale_adapter(night.done("train") / night.adapter_name, work / "adapter", STRENGTH)
    say("trying it at a reduced strength")
    engine = open_engine(night.settings.model.engine, night.base, work / "adapter", _hardware(night))
    engine.merge(work / "model")
    verdict, rules = judging.judge(_survey(night, work / "model", say), night.settings.topology)
    return ("reduced" if verdict == "activate" else "reject"), rules


def _survey(night: NightBundle, merged: Path, say: Say) -> dict[str, object]:
    if night.core is None or night.exam is None:
        raise BadInput("there is no exam for this model: nothing unproven is served")
    child = open_engine(night.settings.model.engine, merged, None, _hardware(night))
    questions = exam.read(night.exam)
    core = [row.messages[:-1] for row in forge_dataset.read_rows(night.core)]
    prompts = core or [question.messages for question in questions]
    stop = forge_dataset.read(night.done("dataset")).stop
    parent, settings = _voice(night), night.settings.dream
    figures = survey.survey(parent, child, night.base, merged, questions, prompts, stop, say)
    say("the night's own tasks, done by both")
    tasks = craft.read(craft.beside(night.base))
    before, after = (craft.sit(dreamer(engine, night.base), tasks, settings) for engine in (parent, child))
    return figures | {
        "craft_before": craft.shares(before),
        "craft_after": craft.shares(after),
        "craft_items": len(tasks),
    }


def past_readings(known: Iterable[Mapping[str, Any]]) -> dict[str, list[Reading]]:
    """What lies near to each of tonight's memories, as it was read in the night that learned it."""
    near: dict[str, list[Reading]] = defaultdict(list)
    for row in known:
        wishes = {sample["claim"] for sample in row["samples"] if sample["kind"] == "style"}
        claims = dict.fromkeys(str(sample["claim"]) for sample in row["samples"])
        reading = Reading(row["id"], row["text"], tuple(Claim(text, text in wishes) for text in claims))
        for memory in row["near"]:
            near[memory].append(reading)
    return near


def _generator(night: NightBundle) -> DreamGenerator:
    """The base, dreaming: what it makes of a memory depends on nothing that other nights have taught.

    So its craft does not wear, a dream can hold no forgotten memory, and the same text is dreamt of alike.
    """
    return DreamGenerator(dreamer(_base(night), night.base), night.settings.dream, night.seed)


def _base(night: NightBundle) -> Engine:
    """The untouched base."""
    return open_engine(night.settings.model.engine, night.base, None, _hardware(night))


def _voice(night: NightBundle) -> Engine:
    """The parent, as it serves by day."""
    serving = night.voice()
    return open_engine(night.settings.model.engine, serving.model, serving.adapter, _hardware(night))


def _hardware(night: NightBundle) -> Hardware:
    return Hardware.of(night.settings.model, halvings=night.died)


def _claims(night: NightBundle) -> list[tuple[str, Claim]]:
    rows = read_lines(night.done("dream") / "claims.jsonl")
    return [(str(r["memory"]), Claim(str(r["claim"]), bool(r["wish"]))) for r in rows]


def _superseded(
    readings: Sequence[Reading], superseded: Mapping[tuple[str, str], str]
) -> list[dict[str, object]]:
    """Memories of which nothing is left: every claim of theirs was overridden by a later memory."""
    by: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for (memory, claim), newer in superseded.items():
        by[memory].append((claim, newer))
    whole = {
        r.memory for r in readings if r.claims and all((r.memory, c.text) in superseded for c in r.claims)
    }
    text = {r.memory: r.text for r in readings}
    return [
        {"memory": memory, "by": pairs[0][1], "reason": f"a newer memory says otherwise: {text[pairs[0][1]]}"}
        for memory, pairs in by.items()
        if memory in whole
    ]


def _teller(night: NightBundle, stage: str, emit: Emit) -> Say:
    """Says what a stage does just now, where it cannot tell how far it is."""
    progress = _counter(night, stage, emit)
    return lambda words: progress(0, 0, words)


def _counter(night: NightBundle, stage: str, emit: Emit) -> rem.Progress:
    """Says how much of a stage is done, of how much, and what it does just now."""
    about = {"event": "progress", "night": night.night, "stage": stage}
    return lambda done, total, note: emit({**about, "done": done, "total": total, "note": note})
