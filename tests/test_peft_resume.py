"""A training that was killed goes on; one that lacks memory makes do with less."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch

from ada_memory.circadian import bundle
from ada_memory.engines import memory
from ada_memory.engines.engine import UNFINISHED, Hardware, Step, TrainPlan
from ada_memory.engines.peft import PeftEngine
from ada_memory.engines.peft_load import new_adapter
from ada_memory.engines.peft_step import Quick, Trainee, parts, way
from ada_memory.engines.text import Row
from ada_memory.errors import AdaError
from ada_memory.forge import dataset as data
from ada_memory.forge.train import train
from ada_memory.settings import ForgeSettings, Settings
from tests.models import EXACT, HF, SAMPLES, sample, steps_of, tiny_model

PLAN = TrainPlan(
    rank=4, alpha=8, learning_rate=5e-3, epochs=4, batch_size=3, drift_weight=1.0, dropout=0.1, seed=1
)
HELD = SAMPLES[:2]


class Killed(Exception):
    """The end of a process, as far as a test can play it without one."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


def careful(folder: Path, hardware: Hardware = EXACT) -> PeftEngine:
    """An engine that saves a training after every step."""
    engine = PeftEngine(folder, None, hardware)
    engine.saving = float("inf")
    return engine


def dies_at(last: int) -> Callable[[Step], bool]:
    """A watch in which everything ends at this step."""

    def watch(step: Step) -> bool:
        if step.step == last:
            raise Killed
        return False

    return watch


def weights(out: Path) -> bytes:
    return (out / "adapter_model.safetensors").read_bytes()


def test_a_killed_training_ends_with_the_bytes_of_one_that_was_not(folder: Path, tmp_path: Path) -> None:
    whole = steps_of(careful(folder), tmp_path / "whole" / "a", PLAN, anchors=HELD)
    for last in (6, 9):  # killed twice
        with pytest.raises(Killed):
            careful(folder).train(SAMPLES, HELD, PLAN, tmp_path / "a", dies_at(last))
        assert not (tmp_path / "a").exists()
    rest = steps_of(careful(folder), tmp_path / "a", PLAN, anchors=HELD)
    assert rest == whole[8:]
    assert weights(tmp_path / "a") == weights(tmp_path / "whole" / "a")
    assert [path.name for path in tmp_path.iterdir() if path.name != "whole"] == ["a"]


def test_only_the_very_same_run_is_gone_on_with(folder: Path, tmp_path: Path) -> None:
    others = [
        (replace(PLAN, seed=2), SAMPLES, HELD),
        (PLAN, [*SAMPLES[:-1], sample("Who?", "Ada")], HELD),
        (PLAN, [*SAMPLES[:-1], replace(SAMPLES[-1], weight=0.5)], HELD),
        (PLAN, SAMPLES, HELD[:1]),
    ]
    for plan, samples, held in others:
        with pytest.raises(Killed):
            careful(folder).train(SAMPLES, HELD, PLAN, tmp_path / "a", dies_at(6))
        assert steps_of(careful(folder), tmp_path / "a", plan, samples, held)[0].step == 1
    with pytest.raises(Killed):
        careful(folder).train(SAMPLES, HELD, PLAN, tmp_path / "a", dies_at(6))
    (kept,) = (tmp_path / UNFINISHED).iterdir()
    kept.write_bytes(kept.read_bytes()[:-9])
    assert steps_of(careful(folder), tmp_path / "a", PLAN, anchors=HELD)[0].step == 1


CHILD = """
import os, signal, sys
from pathlib import Path
from tests.test_peft_resume import HELD, PLAN, SAMPLES, Hardware, careful

def watch(step):
    if step.step == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return False

careful(Path(sys.argv[1]), Hardware(threads=1)).train(SAMPLES, HELD, PLAN, Path(sys.argv[2]), watch)
"""


def run_child(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_sigkill_costs_nothing_but_time(folder: Path, tmp_path: Path) -> None:
    assert run_child(CHILD, folder, tmp_path / "a").returncode == -signal.SIGKILL
    threads = torch.get_num_threads()
    try:
        one = Hardware(threads=1)
        rest = steps_of(careful(folder, one), tmp_path / "a", PLAN, anchors=HELD)
        steps_of(careful(folder, one), tmp_path / "whole", PLAN, anchors=HELD)
    finally:
        torch.set_num_threads(threads)
    assert rest[0].step == 7  # the last that was saved is the sixth
    assert weights(tmp_path / "a") == weights(tmp_path / "whole")


# --- the forge -------------------------------------------------------------------------------------------

SETTINGS = ForgeSettings(
    rank=4, alpha=8, learning_rate=5e-3, epochs=4, steps=0, batch_size=3, patience=2, drift_weight=1
)
LESSONS = data.Dataset(tuple(SAMPLES), tuple(SAMPLES[:3]), tuple(HELD), {})


def test_the_curve_has_every_step_once(folder: Path, tmp_path: Path) -> None:
    whole = train(careful(folder), LESSONS, SETTINGS, 3, tmp_path / "whole" / "a", lambda step: False)
    with pytest.raises(Killed):
        train(careful(folder), LESSONS, SETTINGS, 3, tmp_path / "a", dies_at(8))
    with (tmp_path / UNFINISHED / "loss.csv").open("a") as file:
        file.write("9,3,0.1,0")  # a line that the end of the process cut off
    rest = train(careful(folder), LESSONS, SETTINGS, 3, tmp_path / "a", lambda step: False)
    assert (tmp_path / "loss.csv").read_text() == (tmp_path / "whole" / "loss.csv").read_text()
    assert not (tmp_path / UNFINISHED).exists()
    for name, value in whole.items():
        if name != "seconds":
            assert rest[name] == pytest.approx(value, abs=1e-4), name


def test_the_sleeper_goes_on_in_the_middle_of_the_training(folder: Path, tmp_path: Path) -> None:
    forge = SETTINGS.model_dump() | {"epochs": 40}
    settings = Settings.model_validate(
        {"model": {"engine": "peft"}, "forge": forge, "sunset": {"priority": "normal"}}
    )
    night = bundle.NightBundle(
        tmp_path / "p1", "p1", "manual", 1, "train", "gen-0000", "gen-0001", folder, folder, "", None,
        None, None, datetime.now(UTC), 0, settings,
    )
    bundle.write_bundle(night)
    for stage in ("dream", "verify", "dataset"):
        work = bundle.begin(night, stage)
        if stage == "dataset":
            data.write(LESSONS, work)
        bundle.finish(night, stage, bundle.Done(), datetime.now(UTC), datetime.now(UTC))
    assert steps_until(night.folder, 20)[-1] == 20
    assert (night.work("train") / UNFINISHED).is_dir()
    assert steps_until(night.folder, None)[0] > 1
    with (night.done("train") / "loss.csv").open() as file:
        curve = [int(row["step"]) for row in csv.DictReader(file)]
    assert curve == list(range(1, len(curve) + 1))
    record = bundle.read_result(night, "train")
    assert record is not None and record.outcome == "done" and record.figures["steps"] == len(curve)
    assert sorted(path.name for path in night.done("train").iterdir()) == [
        "loss.csv", "nightly_adapter_v1", "result.json"
    ]


def steps_until(folder: Path, last: int | None) -> list[int]:
    """Run the sleeper; kill it at a step, or let it end. The steps that it told of."""
    command = [sys.executable, "-m", "ada_memory.circadian.sleeper", str(folder), "--until", "train"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    seen = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as sleeper:
        for line in sleeper.stdout or ():
            event = json.loads(line)
            if event["event"] == "step":
                seen.append(int(event["step"]))
            if seen and seen[-1] == last:
                sleeper.kill()
                break
    return seen


# --- memory ----------------------------------------------------------------------------------------------

SHORT = """
import resource, sys
from pathlib import Path
from safetensors import safe_open
import json
from tests.models import sample
from tests.test_peft_resume import TrainPlan, careful

rows = [sample("word " * 60 + str(i), "Lisbon " * 20) for i in range(64)]
out, short = Path(sys.argv[2]), sys.argv[3] == "short"

def watch(step):
    if step.step == 2 and short:  # all that is made once is made: what is needed now is needed each time
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 30_000_000, resource.RLIM_INFINITY))
    if step.step == 5:
        with safe_open(out.parent / "unfinished" / "a.safetensors", "pt") as file:
            print(json.loads(file.metadata()["run"])["tokens"])
    print(step.loss)
    return False

engine = careful(Path(sys.argv[1]))
engine.most = 32_768
engine.train(rows, (), TrainPlan(rank=4, epochs=5, batch_size=64, drift_weight=0), out, watch)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="no other system holds a process to its address space")
def test_without_enough_memory_the_same_steps_are_made_in_parts(tmp_path: Path) -> None:
    folder = wide_model(tmp_path / "base")
    runs = [run_child(SHORT, folder, tmp_path / name / "a", name) for name in ("ample", "short")]
    for run in runs:
        assert run.returncode == 0, run.stderr[-2000:]
    ample, short = ([float(word) for word in run.stdout.split()] for run in runs)
    assert ample.pop(4) == 32_768 > short.pop(4)
    assert short == pytest.approx(ample, abs=1e-4)


def wide_model(folder: Path) -> Path:
    """The tiny model with more in between, so that what is kept for the way back is worth counting."""
    tiny_model(folder)
    config = HF.AutoConfig.from_pretrained(folder)
    config.intermediate_size = 512
    model = HF.LlamaForCausalLM(config)
    model.generation_config = HF.GenerationConfig.from_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def test_in_the_end_a_row_that_does_not_fit_is_named(folder: Path) -> None:
    engine = PeftEngine(folder, None, EXACT)
    model = new_adapter(engine._model, PLAN)
    trainee = Trainee(model, way(model, 0, False, [Row([5], [6])]), 100)
    memory.make_room(trainee, 60)
    assert (trainee.tokens, trainee.recompute) == (50, False)
    memory.make_room(trainee, 60)
    assert (trainee.tokens, trainee.recompute) == (50, True)
    with pytest.raises(AdaError, match="60 tokens"):
        memory.make_room(trainee, 60)


@pytest.mark.parametrize("recompute", [False, True])
def test_activations_take_what_was_estimated(folder: Path, recompute: bool) -> None:
    config = HF.LlamaConfig(
        vocab_size=300, hidden_size=96, intermediate_size=224, num_hidden_layers=6, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, tie_word_embeddings=True,
    )
    plan = TrainPlan(rank=8)
    model = new_adapter(HF.LlamaForCausalLM(config).to(torch.bfloat16), plan).train()
    trainee = Trainee(model, Quick(model, 0, torch.bfloat16), 10_000)
    trainee.recompute_layers(recompute)
    rows = [Row([5 + i % 9] * 50, [7] * 14) for i in range(16)]
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if not isinstance(tensor, torch.nn.Parameter):
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    (part,) = parts(rows, [1.0] * 16, [], TrainPlan(), 10_000, padded=False)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        trainee.way.learn(part)
    tokens = sum(map(len, rows))
    expected = memory.estimate(config.to_dict(), plan, tokens, checkpointing=recompute).activations
    whole = memory.estimate(config.to_dict(), plan, tokens).activations
    found = sum(kept.values())
    if recompute:  # the one layer that is made again is not among what hooks see
        assert found < expected < whole / 2
    else:
        assert 0.6 * expected < found < 1.1 * expected


def test_a_run_is_fitted_into_the_memory_there_is() -> None:
    config: dict[str, Any] = {
        "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
        "intermediate_size": 4864, "vocab_size": 151936, "tie_word_embeddings": True,
    }
    assert memory.shape(config).parameters == pytest.approx(494e6, rel=0.01)
    runs = [memory.fit(config, PLAN, free << 30) for free in (64, 8, 4, 1)]
    assert [run.tokens for run in runs] == sorted((run.tokens for run in runs), reverse=True)
    assert runs[0].tokens == memory.TOKENS and not runs[0].checkpointing
    assert runs[-1].checkpointing and runs[-1].tokens == memory.LEAST
    for run, free in zip(runs[:-1], (64, 8, 4), strict=True):
        assert run.total <= free << 30
    loaded = memory.fit(config, PLAN, 3 << 30, loaded=True)
    assert loaded.tokens > memory.fit(config, PLAN, 3 << 30).tokens or not loaded.checkpointing
