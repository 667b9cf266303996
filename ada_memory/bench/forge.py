"""`ada bench forge`: our training beside mlx-lm's and TRL's, on the same rows.

Every contender trains the same model on the same chat rows with the same loss mask (the reply and its end of
turn), rank, scale, epochs and number of updates, in a process of its own, one after the other; the whole
round is repeated, so that a slow minute of the machine hits all alike. What counts is

    tokens of one epoch * epochs / (seconds of updates 2 to n * n / (n - 1))

with every token of a row counted once an epoch, and no padding: loading is not in it, and neither is the
first update, which carries everybody's warm-up and is reported beside it. A speedup is the median of the
ratios within each round. Competitors run at their best: before the first round each tries its variants on a
few updates and goes on with the fastest. Peak memory is the process's peak of resident memory; on a GPU that
of allocated memory is beside it.
"""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ada_memory.bench import forge_data as data
from ada_memory.bench.clock import Job
from ada_memory.bench.forge_race import Contender, Result, best, call, field_of, is_installed, race
from ada_memory.bench.night import say
from ada_memory.errors import AdaError, BadInput
from ada_memory.forge import dataset as forge_dataset
from ada_memory.records import Sample
from ada_memory.settings import ForgeSettings

MODELS = ("seedling", "0.5b")
STEPS = {"seedling": 40, "0.5b": 8}
TRIAL_STEPS = {"seedling": 12, "0.5b": 3}
RATES = {"seedling": ForgeSettings().learning_rate, "0.5b": 2e-4}
TOO_SLOW = {"0.5b": ("mlx-lm",)}
"""At some 4 GFLOP/s, which the reference BLAS gives, one update of the larger model takes minutes."""
SPEEDUPS = {
    "seedling": {
        "speedup_mlx_lm": ("ada", "mlx-lm"),
        "speedup_mlx_lm_blas": ("ada", "mlx-lm-blas"),
        "speedup_mlx_lm_same_blas": ("ada-mlx", "mlx-lm-blas"),
        "speedup_trl": ("ada", "trl"),
    },
    "0.5b": {
        "speedup_mlx_lm_blas_0_5b": ("ada", "mlx-lm-blas"),
        "speedup_mlx_lm_same_blas_0_5b": ("ada-mlx", "mlx-lm-blas"),
        "speedup_trl_0_5b": ("ada", "trl"),
    },
}
ALIKE = 0.25
"""Largest relative distance of a contender's final loss from ours that counts as the same training."""


def run(
    against: Sequence[str] = ("mlx-lm", "trl"),
    engines: Sequence[str] = ("default", "mlx"),
    models: Sequence[str] = MODELS,
    facts: int = 20,
    seed: int = 7,
    repeats: int = 3,
    steps: int = 0,
) -> dict[str, object]:
    """Run the benchmark; progress goes to standard error. `steps` 0 means each model's own number.

    Raises:
        BadInput: an unknown contender, engine or model.
        AdaError: our own training failed, or a contender saw other data than we did.
    """
    entered, missing = field_of(against, _engines(engines))
    if unknown := sorted(set(models) - set(MODELS)):
        raise BadInput(f"no model is called {', '.join(unknown)}", hint=f"it is one of {', '.join(MODELS)}")
    if steps == 1:
        raise BadInput("one update is all warm-up", hint="--steps takes 2 or more, or 0 as usual")
    night = data.night(facts, seed)
    figures: dict[str, object] = {"seed": seed, "facts": facts, "repeats": repeats, "left_out": missing}
    with tempfile.TemporaryDirectory(prefix="ada-bench-") as scratch:
        for model in models:
            folder = data.SEEDLING if model == "seedling" else data.write_qwen(Path(scratch) / "qwen", seed)
            slow = TOO_SLOW.get(model, ())
            missing |= {f"{c.name} on {model}": "an update takes minutes" for c in entered if c.name in slow}
            racing = [contender for contender in entered if contender.name not in slow]
            course = _Course(model, folder, Path(scratch) / model, data.epoch(night), seed)
            say(f"{model}: {', '.join(contender.name for contender in racing)}")
            found = _rounds(course, racing, repeats, steps or STEPS[model], missing)
            figures[f"contenders_{model.replace('.', '_')}"] = found
            figures |= _speedups(SPEEDUPS[model], found)
        if "seedling" in models and any(c.name == "ada" for c in entered):
            figures |= _recall(Path(scratch), night, seed)
    return figures


@dataclass(frozen=True, slots=True)
class _Course:
    """What is the same for all on one model."""

    model: str
    folder: Path
    work: Path
    rows: Sequence[Sample]
    seed: int

    def job(self, steps: int) -> Job:
        """A job of so many updates, whole batches and whole epochs; its rows are written."""
        settings = ForgeSettings()
        size = settings.batch_size
        epochs = math.ceil(steps / (len(self.rows) // size))
        batches = steps // epochs
        place = self.work / f"{epochs}x{batches}"
        if not place.exists():
            data.write_rows(data.spread(self.rows, batches * size), self.folder, place)
        return Job(
            model=str(self.folder),
            data=str(place),
            epochs=epochs,
            batch_size=size,
            updates=epochs * batches,
            rank=settings.rank,
            scale=settings.alpha / settings.rank,
            learning_rate=RATES[self.model],
            warmup=settings.warmup,
            seed=self.seed,
        )


def _engines(wanted: Sequence[str]) -> list[tuple[str, str]]:
    """(contender, engine) of ours; mlx is passed over where it is not installed."""
    default = data.default_engine()
    found = {"default": ("ada", default), "peft": ("ada-peft", "peft"), "mlx": ("ada-mlx", "mlx")}
    if unknown := sorted(set(wanted) - set(found)):
        raise BadInput(f"no engine is called {', '.join(unknown)}", hint=f"it is one of {', '.join(found)}")
    here = is_installed("mlx_lm")
    return [found[name] for name in dict.fromkeys(wanted) if name != "mlx" or here]


def _rounds(
    course: _Course, racing: Sequence[Contender], repeats: int, steps: int, missing: dict[str, Any]
) -> dict[str, dict[str, object]]:
    """Everybody in turn, `repeats` times over. Who fails is left out, with the reason, unless it is we."""
    job, short = course.job(steps), course.job(min(steps, TRIAL_STEPS[course.model]))
    chosen: dict[str, dict[str, str]] = {}
    tried: dict[str, list[dict[str, object]]] = {}
    runs: dict[str, list[Result]] = {}
    for turn in range(repeats + 1):
        for contender in racing:
            name = contender.name
            place = f"{name} on {course.model}"
            try:
                if not turn:
                    chosen[name], tried[name] = best(contender, short, say)
                elif place not in missing:
                    runs.setdefault(name, []).append(race(contender, job, chosen[name]))
                    say(f"  {turn}/{repeats} {name}: {runs[name][-1]['tokens_per_second']:.0f} tokens/s")
            except AdaError as error:
                if name == "ada":
                    raise
                missing[place] = str(error)
                runs.pop(name, None)
    _assert_same(runs)
    return _compared({name: _figures(job, made, tried[name]) for name, made in runs.items()}, runs)


def _compared(
    found: dict[str, dict[str, object]], runs: Mapping[str, Sequence[Result]]
) -> dict[str, dict[str, object]]:
    """Add whether each final loss is near ours, where it is the same loss."""
    ours = next((float(str(f["loss_last"])) for name, f in found.items() if name.startswith("ada")), math.nan)
    for name, figures in found.items():
        if runs[name][-1].get("loss_counts_padding"):
            figures["loss_counts_padding"] = True
        else:
            figures["loss_alike"] = abs(float(str(figures["loss_last"])) - ours) <= ALIKE * ours
    return found


def _assert_same(runs: Mapping[str, Sequence[Result]]) -> None:
    """All contenders saw the same tokens, and as many of them under the loss."""
    seen = {
        name: {(run["trained_tokens"], run["total_tokens"]) for run in made} for name, made in runs.items()
    }
    if len(set().union(*seen.values())) > 1:
        raise AdaError(f"the contenders saw different data (trained tokens, all tokens): {seen}")


def _figures(job: Job, runs: Sequence[Result], tried: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """What there is to say of one contender: medians over its runs, and how far the runs lie apart."""
    speeds = [float(run["tokens_per_second"]) for run in runs]
    losses = [[float(loss) for loss in run["losses"]] for run in runs]
    tail = max(1, job.updates // 4)
    last = runs[-1]
    memory: dict[str, object] = {
        key: max(float(run[key]) for run in runs)
        for key in ("peak_rss_mib", "peak_gpu_mib", "peak_mlx_mib")
        if key in last
    }
    return {
        "tokens_per_second": round(statistics.median(speeds), 1),
        "tokens_per_second_runs": [round(speed, 1) for speed in speeds],
        "spread": round((max(speeds) - min(speeds)) / statistics.median(speeds), 3),
        **memory,
        "seconds": round(statistics.median(sum(run["seconds"]) for run in runs), 2),
        "seconds_first_update": round(statistics.median(run["seconds"][0] for run in runs), 3),
        "updates": job.updates,
        "epochs": job.epochs,
        "batch_size": job.batch_size,
        "trained_tokens": job.epochs * last["trained_tokens"],
        "total_tokens": job.epochs * last["total_tokens"],
        "loss_first": round(statistics.median(run[0] for run in losses), 4),
        "loss_last": round(statistics.median(statistics.fmean(run[-tail:]) for run in losses), 4),
        "variant": last["variant"],
        "variants_tried": list(tried),
        "device": last["device"],
        "threads": last.get("threads"),
        "versions": last["versions"],
    }


def _speedups(
    wanted: Mapping[str, tuple[str, str]], found: Mapping[str, Mapping[str, Any]]
) -> dict[str, float]:
    """The fields for which both sides ran: the median, over the rounds, of the ratio within each."""
    speeds = {name: figures["tokens_per_second_runs"] for name, figures in found.items()}
    return {
        name: round(statistics.median(a / b for a, b in zip(speeds[us], speeds[them], strict=True)), 2)
        for name, (us, them) in wanted.items()
        if us in speeds and them in speeds
    }


def _recall(scratch: Path, night: forge_dataset.Dataset, seed: int) -> dict[str, object]:
    """Train as a night does until the stop phrasings are known."""
    forge_dataset.write(night, scratch / "night")
    engine = {"engine": data.default_engine()}
    job = Job(str(data.SEEDLING), str(scratch / "night"), 0, 0, 0, 0, 0.0, 0.0, 0.0, seed, engine)
    contender = Contender("ada", "ada_memory.bench.forge_recall")
    said = call(contender, job)
    say(f"  stop recall {said['recall']} after {said['seconds_to_recall']} s")
    return {name: said[name] for name in ("seconds_to_recall", "recall", "seconds_to_load", "recall_epochs")}
