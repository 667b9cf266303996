"""Who races in `ada bench forge`, and one race: a job goes to a process of its own, what it says comes back.

A competitor brings stages of variants. Before the first round every variant of a stage runs a few updates;
the fastest goes on to the next stage, so that each competitor starts with the best of its own settings.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ada_memory.bench.clock import Job
from ada_memory.engines import blas
from ada_memory.errors import AdaError, BadInput

OURS = "ada_memory.bench.forge_ours"
PEERS = "ada_memory.bench.contenders"
PEER_NAMES = ("mlx-lm", "trl")
INSTALL = {
    "mlx-lm": "pip install -e '.[mlx]'",
    "mlx-lm-blas": "apt-get install libopenblas0-pthread",
    "trl": "pip install -e '.[bench]'",
}
Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Contender:
    """One trainer: its program, the variants it may choose from, its environment."""

    name: str
    program: str
    stages: tuple[tuple[Mapping[str, str], ...], ...] = ()
    fixed: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


def ours(engine: str, name: str) -> Contender:
    """Our own training with an engine."""
    return Contender(name, OURS, fixed={"engine": engine})


def trl() -> Contender:
    """TRL's SFTTrainer: number formats first, then how rows are batched."""
    formats = (
        {"dtype": "bfloat16", "mixed": "yes"},
        {"dtype": "float32", "mixed": "yes"},
        {"dtype": "float32", "mixed": "no"},
    )
    batches = tuple({"batches": name} for name in ("packing", "padding_free", "grouped"))
    return Contender("trl", f"{PEERS}.trl_sft", (formats, batches), {"batches": "packing"})


def mlx_lm(library: str = "") -> Contender:
    """`mlx_lm.lora` as it is installed, or in float32 with a BLAS, which takes nothing else, loaded first."""
    program = f"{PEERS}.mlx_lora"
    if library:
        return Contender("mlx-lm-blas", program, (), {"dtype": "float32"}, {"LD_PRELOAD": library})
    return Contender("mlx-lm", program, (({"dtype": ""}, {"dtype": "float32"}),))


def openblas() -> str:
    """The library that our mlx engine loads; empty where there is none, or where MLX brings a fast one."""
    return blas.find() or "" if sys.platform == "linux" else ""


def is_installed(module: str) -> bool:
    """Whether a module can be imported; it is not."""
    return importlib.util.find_spec(module) is not None


def field_of(
    against: Sequence[str],
    engines: Sequence[tuple[str, str]],
    installed: Callable[[str], bool] = is_installed,
) -> tuple[list[Contender], Result]:
    """All who can run here, ours first, and why the others cannot. `engines` are (name, engine) of ours.

    Raises:
        BadInput: `against` names somebody unknown.
    """
    if unknown := sorted(set(against) - set(PEER_NAMES)):
        raise BadInput(
            f"nobody is called {', '.join(unknown)}", hint=f"--against knows {', '.join(PEER_NAMES)}"
        )
    found = [ours(engine, name) for name, engine in engines]
    missing: Result = {}
    if "mlx-lm" in against:
        if not installed("mlx_lm"):
            missing["mlx-lm"] = f"it is not installed: {INSTALL['mlx-lm']}"
        else:
            found.append(mlx_lm())
            if library := openblas():
                found.append(mlx_lm(library))
            elif sys.platform == "linux":
                missing["mlx-lm-blas"] = f"there is no openblas: {INSTALL['mlx-lm-blas']}"
    if "trl" in against:
        if not installed("trl"):
            missing["trl"] = f"it is not installed: {INSTALL['trl']}"
        else:
            found.append(trl())
    return found, missing


def race(contender: Contender, job: Job, variant: Mapping[str, str]) -> Result:
    """Run one job and return what the runner said.

    Raises:
        AdaError: the runner failed; says with what.
    """
    job = replace(job, variant={**contender.fixed, **variant})
    result = call(contender, job)
    if result["updates"] != job.updates:
        raise AdaError(f"{contender.name} made {result['updates']} updates, not {job.updates}")
    return result | {"tokens_per_second": rate(result, job)}


def call(contender: Contender, job: Job) -> Result:
    """The last line that a runner prints, in an environment without a BLAS but the contender's own.

    Raises:
        AdaError: it failed; says with what.
    """
    kept = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
    done = subprocess.run(
        [sys.executable, "-m", contender.program, job.words()],
        env={**kept, "PYTHONWARNINGS": "ignore", **contender.environment},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        said = (done.stderr or done.stdout).strip()
        raise AdaError(f"{contender.name} ended with {done.returncode}: {said[-600:]}")
    result: Result = json.loads(lines[-1])
    return result


def rate(result: Mapping[str, Any], job: Job) -> float:
    """Tokens of training data a second, the first update's warm-up left out."""
    seconds, updates = result["seconds"], job.updates
    return float(job.epochs * result["total_tokens"] * (updates - 1) / (updates * sum(seconds[1:])))


def best(
    contender: Contender, job: Job, say: Callable[[str], None]
) -> tuple[dict[str, str], list[dict[str, object]]]:
    """The fastest variant of a contender on a small job, and how fast each was."""
    chosen: dict[str, str] = {}
    tried: list[dict[str, object]] = []
    for stage in contender.stages:
        speeds = []
        for variant in stage:
            whole = {**contender.fixed, **chosen, **variant}
            known = next((t["tokens_per_second"] for t in tried if t["variant"] == whole), None)
            if known is None:
                known = round(float(race(contender, job, whole)["tokens_per_second"]), 1)
                tried.append({"variant": whole, "tokens_per_second": known})
                say(f"  {contender.name} {whole}: {known} tokens/s")
            speeds.append(float(str(known)))
        chosen |= stage[speeds.index(max(speeds))]
    return chosen, tried
