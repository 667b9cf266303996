"""`ada bench recipes`: how others train by night, as published and at their best learning rate, beside ours.

One day, one base, one engine, one exam. The recipes train on what their authors prescribe (`recipe_table`);
ours is a real night of a real daemon. A learning rate is chosen on another day than the one that judges, so
that nobody is tuned on the judge. A run that breaks is reported with its reason.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from ada_memory.bench import day as days
from ada_memory.bench import night
from ada_memory.bench.clock import device_name
from ada_memory.bench.recipe_table import IDENTITY_ROWS, RECIPES, Material, Recipe, rates
from ada_memory.engines.engine import Engine, Hardware, Sampling, Step, open_engine
from ada_memory.errors import AdaError, BadInput
from ada_memory.forge.dataset import prompt_of, read_rows
from ada_memory.forge.phrasings import normalise
from ada_memory.hippocampus import salience
from ada_memory.records import Message, Sample
from ada_memory.seedling import exam
from ada_memory.seedling.world import Fact
from ada_memory.settings import Home, ModelSettings, SalienceSettings, Settings, load
from ada_memory.sovereign.bases import Base, prepare_base
from ada_memory.topology.exam import Question, marks, sit

OURS = "ada"
OTHER_DAY = 1_000
"""The tuning day's seed is so much above the judged day's."""
REPLY = Sampling(max_tokens=48)
Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ground:
    """One day as all recipes meet it: what was told, what there is to train on, who asks afterwards."""

    facts: int
    seed: int
    material: Material
    asked: Sequence[Question]
    core: Sequence[Question]


@dataclass(frozen=True, slots=True)
class Bench:
    """Where it all runs: an untouched base and how it is loaded."""

    base: Base
    model: ModelSettings
    scratch: Path

    def engine(self, adapter: Path | None = None) -> Engine:
        """The base, or the base and an adapter."""
        return open_engine(self.model.engine, self.base.path, adapter, Hardware.of(self.model))


def run(
    facts: int,
    seed: int,
    only: str | None = None,
    home: Path | None = None,
    settings: Mapping[str, str] | None = None,
    grid: Sequence[float] | None = None,
    core_items: int | None = None,
) -> Figures:
    """Run every recipe, or the one called `only`; progress goes to standard error.

    `grid` takes the place of the learning rates that are tried; with `core_items` the others are asked only
    so many questions of the core exam.

    Raises:
        BadInput: there is no recipe called `only`.
        AdaError: the day could not be made, or our own night failed.
    """
    chosen = _chosen(only)
    with tempfile.TemporaryDirectory(prefix="ada-recipes-") as folder:
        scratch = Path(folder)
        root = (home or scratch / "home").resolve()
        values = load(root / "etc" / "ada.toml", {}, settings or {})
        bench = Bench(prepare_base(Home(scratch), values.model), values.model, scratch)
        figures: Figures = {"facts": facts, "seed": seed, "model": bench.base.name}
        recipes: list[Figures] = []
        sweeps: list[Figures] = []
        judged = ground(bench, facts, seed, exam.core_exam("judge", seed, 2)[:core_items])
        figures |= {f"{name}_before": value for name, value in _ask(bench.engine(), judged).items()}
        if chosen:
            gate = exam.core_exam("gate", seed + OTHER_DAY)[::2][:core_items]
            tuning = ground(bench, facts, seed + OTHER_DAY, gate)
        for recipe in chosen:
            tried = rates(recipe) if grid is None else tuple(sorted({*grid, recipe.plan.learning_rate}))
            sweep = [_tried(bench, recipe, rate, tuning, judged) for rate in tried]
            sweeps += sweep
            recipes += _shown(bench, recipe, sweep, judged)
        if only in (None, OURS):
            recipes.append(_ours(facts, seed, root, values, settings or {}))
    return {**figures, "device": device(values), "recipes": recipes, "sweeps": sweeps}


def _chosen(only: str | None) -> list[Recipe]:
    names = [recipe.name for recipe in RECIPES]
    if only not in (None, OURS, *names):
        raise BadInput(f"there is no recipe called {only!r}", hint=f"there are {', '.join([*names, OURS])}")
    return [recipe for recipe in RECIPES if only in (None, recipe.name)]


def device(settings: Settings) -> str:
    """The machine in a few words: what computes, and with how much of it."""
    threads = settings.model.threads or os.cpu_count() or 1
    return f"{device_name()}, {threads} threads"


# ---- the day --------------------------------------------------------------------------------


def ground(bench: Bench, facts: int, seed: int, core: Sequence[Question]) -> Ground:
    """Draw a day and make what the recipes train on.

    Raises:
        AdaError: the base has no core rows, or a judge's question got into the rows.
    """
    told = days.day(facts, seed)
    asked = days.questions(told)
    material = Material(_turns(bench, told), _pairs(told, seed), _identity(bench.base, seed))
    seen = {prompt_of(row) for row in (*material.turns, *material.pairs, *material.identity)}
    if both := seen & {normalise(q.messages[-1].content) for q in (*asked, *core)}:
        raise AdaError(f"judged prompts were to be trained on: {sorted(both)[:3]}")
    return Ground(facts, seed, material, asked, core)


def _turns(bench: Bench, told: Sequence[days.Told]) -> tuple[Sample, ...]:
    """What was said by day and what the untouched model replied, weighed by salience (0 to 1)."""
    chats = [(Message("user", item.text),) for item in told]
    replies = bench.engine().generate(chats, REPLY)
    nothing = np.zeros((0, 1), np.float32)
    return tuple(
        Sample(
            (*chat, Message("assistant", reply.text)),
            "new",
            salience.score(chat[0].content, "user", "chat", None, nothing, SalienceSettings()).score,
        )
        for chat, reply in zip(chats, replies, strict=True)
    )


def _pairs(told: Sequence[days.Told], seed: int) -> tuple[Sample, ...]:
    """One question about each thing told, in a phrasing that does not judge, and its answer."""
    rng = Random(f"pairs:{seed}")
    made = []
    for item in told:
        asks = item.of.asks() if isinstance(item.of, Fact) else item.of.spec.ask
        question = rng.choice([ask for ask in asks if ask not in item.judges])
        made.append(Sample((Message("user", question), Message("assistant", item.of.answer())), "new"))
    return tuple(made)


def _identity(base: Base, seed: int) -> tuple[Sample, ...]:
    """Rows of who the model is, as it knows itself."""
    if base.core is None:
        raise AdaError(f"{base.name} has no core.jsonl: there is no identity to replay")
    known = [row for row in read_rows(base.core) if row.kind == "identity"]
    return tuple(Random(f"identity:{seed}").sample(known, min(IDENTITY_ROWS, len(known))))


# ---- a run ----------------------------------------------------------------------------------


def attempt(bench: Bench, recipe: Recipe, rate: float, on: Ground, core: bool) -> Figures:
    """Train one recipe at one rate on one day and ask. `seconds`: loading the base, training, saving.

    A run that breaks has `failed` (why) in the place of its figures.
    """
    rows = recipe.rows(on.material)
    steps = recipe.steps(len(rows), len(on.material.pairs))
    began = time.perf_counter()
    try:
        engine = bench.engine()
        plan = replace(
            recipe.plan,
            learning_rate=rate,
            epochs=math.ceil(steps / len(rows)),
            last_layers=min(recipe.plan.last_layers, engine.layers),
            seed=on.seed,
        )
        last: list[Step] = []

        def watch(step: Step) -> bool:
            last[:] = [step]
            return step.step >= steps

        engine.train(rows, (), plan, bench.scratch / "adapter", watch)
    except AdaError as error:
        return {"failed": error.message}
    seconds = round(time.perf_counter() - began, 2)
    run_ = {"seconds": seconds, "steps": last[0].step, "rows": len(rows), "epochs": plan.epochs}
    return run_ | {"loss_last": round(last[0].loss, 4)} | _ask(engine, on, core)


def _ask(engine: Engine, on: Ground, core: bool = True) -> Figures:
    found = {"recall": round(days.recall(engine, on.asked), 4)}
    return found | ({"core": round(marks(on.core, sit(engine, on.core))["all"], 4)} if core else {})


def _tried(bench: Bench, recipe: Recipe, rate: float, tuning: Ground, judged: Ground) -> Figures:
    """One learning rate on the day that tunes (recall and core) and on the day that judges (recall)."""
    tuned = attempt(bench, recipe, rate, tuning, core=True)
    met = attempt(bench, recipe, rate, judged, core=False)
    row: Figures = {"name": recipe.name, "learning_rate": rate}
    row |= {"recall_tuning": tuned.get("recall"), "core_tuning": tuned.get("core")}
    row |= {"recall_heldout": met.get("recall"), "loss_last": met.get("loss_last")}
    row |= {"failed": why} if (why := tuned.get("failed") or met.get("failed")) else {}
    night.say(f"{recipe.name} at {rate:g}: " + (f"failed: {why}" if why else _line(row)))
    return row


def _line(row: Figures) -> str:
    return f"recall {row['recall_heldout']:.3f}, on the tuning day {row['recall_tuning']:.3f}"


def best(sweep: Sequence[Figures], *by: str) -> float | None:
    """The learning rate with the highest figures, the first counting most; of equals the smallest.

    None if every run of the sweep failed.
    """
    whole = [row for row in sweep if "failed" not in row]
    found = max(whole, key=lambda row: (*(row[name] for name in by), -row["learning_rate"]), default=None)
    return None if found is None else float(found["learning_rate"])


def _shown(bench: Bench, recipe: Recipe, sweep: Sequence[Figures], judged: Ground) -> list[Figures]:
    """The recipe as published, at its tuned rate, and at the best on the judged day if that is another."""
    wanted = {
        "published": recipe.plan.learning_rate,
        "swept": best(sweep, "recall_tuning", "core_tuning"),
        "best on the judged day": best(sweep, "recall_heldout"),
    }
    rows, seen = [], dict[float, Figures]()
    for kind, rate in wanted.items():
        if rate is None or (kind not in ("published", "swept") and rate in seen):
            continue
        if rate not in seen:
            seen[rate] = attempt(bench, recipe, rate, judged, core=True)
        rows.append(_row(recipe, kind, rate, seen[rate]))
        met = seen[rate].get("failed") or f"recall {seen[rate]['recall']:.3f}, core {seen[rate]['core']:.3f}"
        night.say(f"{recipe.name}, {kind} ({rate:g}): {met}")
    return rows


def _row(recipe: Recipe, kind: str, rate: float, met: Figures) -> Figures:
    row: Figures = {"name": recipe.name, "kind": kind, "learning_rate": rate}
    row |= {"recall_heldout": met.get("recall"), "core_after": met.get("core")}
    row |= {name: met.get(name) for name in ("seconds", "steps", "rows", "epochs", "loss_last")}
    row |= {"seconds_train": row["seconds"], "rank": recipe.plan.rank, "notes": recipe.notes}
    return row | ({"failed": met["failed"]} if "failed" in met else {})


# ---- ours -----------------------------------------------------------------------------------


def _ours(facts: int, seed: int, root: Path, values: Settings, settings: Mapping[str, str]) -> Figures:
    """A real night on the same day. `seconds` is all of it; the others' are like `seconds_train`."""
    row: Figures = {"name": OURS, "kind": "night", "learning_rate": values.forge.learning_rate}
    row |= dict.fromkeys(("recall_heldout", "core_after", "seconds", "seconds_train", "steps", "epochs"))
    row |= {"rank": values.forge.rank, "notes": "a whole night: dreams, checks, training, merge, exam, probe"}
    night.say(f"{OURS}: a whole night")
    try:
        met: Figures = night.run(facts, seed, home=root, settings=settings)
    except (AdaError, OSError) as error:  # a night that was not whole lacks files that its figures come from
        return row | {"failed": str(error)}
    row |= {name: met.get(name) for name in ("recall_heldout", "core_after", "seconds", "verdict")}
    ended = sorted(Home(root, values.mind.id).nights.glob("*/train/result.json"))
    trained = json.loads(ended[-1].read_text("utf-8"))["figures"] if ended else {}
    row |= {name: trained.get(name) for name in ("steps", "epochs")} | {"rows": _trained_on(ended)}
    return row | {"seconds_train": trained.get("seconds")}


def _trained_on(ended: Sequence[Path]) -> int | None:
    """Rows in the dataset of the night whose training ended last."""
    if not ended:
        return None
    rows = ended[-1].parent.parent / "dataset" / "train.jsonl"
    return sum(1 for line in rows.read_text("utf-8").splitlines() if line)
