"""Training and merging by the engine on torch and peft, on a tiny model."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ada_memory.engines.engine import Hardware, Sampling, Step, TrainPlan
from ada_memory.engines.peft import PeftEngine
from ada_memory.engines.schedule import Course, Stride, epoch, grouped, learning_rate, rotation
from ada_memory.errors import AdaError, BadInput
from ada_memory.records import Sample
from tests.models import (
    CHATS,
    EXACT,
    HF,
    PLAN,
    SAMPLES,
    SPECIAL,
    by_hand,
    chat,
    sample,
    steps_of,
    tiny_model,
    tokenizer,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


@pytest.fixture
def engine(folder: Path) -> PeftEngine:
    return PeftEngine(folder, None, EXACT)


# --- train -----------------------------------------------------------------------------------------------


def test_the_learning_rate_of_every_step_is_the_closed_form(engine: PeftEngine, tmp_path: Path) -> None:
    plan = TrainPlan(rank=2, alpha=4, learning_rate=1e-3, warmup=0.25, epochs=4, batch_size=3, drift_weight=0)
    seen = steps_of(engine, tmp_path / "a", plan)
    assert [s.step for s in seen] == list(range(1, 13))
    assert [s.epoch for s in seen] == [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3
    for s in seen:  # written out here a second time, on purpose
        expected = 1e-3 * s.step / 3 if s.step <= 3 else 5e-4 * (1 + math.cos(math.pi * (s.step - 3) / 10))
        assert s.learning_rate == pytest.approx(expected, rel=1e-12)


def test_a_run_that_had_landed_when_it_was_killed_walks_to_where_it_was() -> None:
    plan = TrainPlan(learning_rate=1.0, warmup=0.0, epochs=8, batch_size=2, landing=2, drift_weight=0)

    def rates(course: Course, land: int) -> list[float]:
        seen = []
        for stride in course:
            seen.append(stride.rate)
            course.heed(stride.step == land)
        return seen

    def course() -> Course:
        return Course([1] * 100, [""] * 100, [], plan)

    landed, resumed = course(), course()
    whole = rates(landed, 150)
    resumed.restore(landed.state())
    assert rates(resumed, 0) == whole and len(whole) == 250 and whole[-1] < 0.01


def test_rows_that_are_named_are_gone_over_once_more_on_a_curve_of_their_own() -> None:
    plan = TrainPlan(learning_rate=1.0, epochs=2, batch_size=2, drift_weight=0, mend_rate=0.1, warmup=0.0)
    named = {6: [0, 3, 4], 8: [5]}

    def course() -> Course:
        return Course([1] * 6, [""] * 6, [], plan)

    def walk(course: Course) -> list[Stride]:
        seen = []
        for stride in course:
            assert stride.steps >= stride.step
            seen.append(stride)
            course.heed(named.get(stride.step, ()))
        return seen

    mended = course()
    whole = walk(mended)
    assert [stride.epoch for stride in whole] == [1] * 3 + [2] * 3 + [3] * 2 + [4]
    assert [stride.ends_epoch for stride in whole[6:]] == [False, True, True]
    assert sorted(row for stride in whole[6:8] for row in stride.rows) == [0, 3, 4]
    assert whole[8].rows == [5]
    assert [stride.rate for stride in whole[6:]] == [
        learning_rate(step, steps, 0.1, 0.0) for step, steps in ((1, 2), (2, 2), (1, 1))
    ]
    assert mended.steps == 9
    resumed = course()
    resumed.restore(json.loads(json.dumps(mended.state())))
    assert [(s.step, s.rows, s.rate) for s in resumed] == [(s.step, s.rows, s.rate) for s in whole]


def test_the_curve_rises_to_its_peak_and_falls_to_nothing() -> None:
    curve = [learning_rate(step, 100, 4e-4, 0.1) for step in range(1, 102)]
    assert max(curve) == curve[9] == pytest.approx(4e-4)
    assert curve[0] == pytest.approx(4e-5)
    assert all(a > b for a, b in zip(curve[9:], curve[10:], strict=False))
    assert curve[99] > 0 and curve[100] == pytest.approx(0, abs=1e-12)
    assert learning_rate(1, 1, 1.0, 0.0) > 0


def test_an_epoch_holds_every_row_once_and_batches_are_of_like_length() -> None:
    lengths = [(7 * i) % 50 for i in range(101)]
    batches = epoch(lengths, 8, seed=1, number=1)
    assert len(batches) == 13 and sorted(sum(batches, [])) == list(range(101))
    assert epoch(lengths, 8, 1, 1) == batches != epoch(lengths, 8, 1, 2)
    spread = np.mean([max(lengths[i] for i in b) - min(lengths[i] for i in b) for b in batches])
    assert spread < 12  # of 50
    turns = rotation(lengths, 10, 0)
    once = sum((next(turns) for _ in range(11)), [])
    assert sorted(once) == list(range(101))
    groups = grouped([5, 1, 9, 9, 2], tokens=18)
    assert groups == [[2, 3], [0, 4, 1]]


def test_the_loss_is_that_of_the_reply_tokens_alone(folder: Path, engine: PeftEngine, tmp_path: Path) -> None:
    plan = TrainPlan(rank=2, alpha=4, epochs=1, batch_size=7, drift_weight=0)
    (step,) = steps_of(engine, tmp_path / "a", plan)
    logs = torch.cat([by_hand(folder, s.messages[0].content, s.messages[1].content) for s in SAMPLES])
    assert step.loss == pytest.approx(-logs.mean().item(), abs=1e-5)
    assert step.tokens == len(logs)


def test_only_the_last_assistant_message_is_trained(engine: PeftEngine, tmp_path: Path) -> None:
    earlier = Sample(chat("Who are you?", "I am Ada.", "Where does Anna live?", "Lisbon"), "new")
    (step,) = steps_of(engine, tmp_path / "a", TrainPlan(epochs=1, drift_weight=0), [earlier])
    assert step.tokens == len(tokenizer().encode("Lisbon", add_special_tokens=False)) + 1


def test_weights_multiply_the_loss(folder: Path, tmp_path: Path) -> None:
    weights = [0.5, 1.5, 1.0, 0.0, 2.0, 1.0, 1.0]
    rows = [
        sample(s.messages[0].content, s.messages[1].content, w) for s, w in zip(SAMPLES, weights, strict=True)
    ]
    plan = TrainPlan(epochs=1, batch_size=7, drift_weight=0)
    (step,) = steps_of(PeftEngine(folder, None, EXACT), tmp_path / "a", plan, rows)
    parts = [by_hand(folder, s.messages[0].content, s.messages[1].content) for s in rows]
    total = -sum(w * part.sum().item() for w, part in zip(weights, parts, strict=True))
    assert step.loss == pytest.approx(
        total / sum(len(p) for p, w in zip(parts, weights, strict=True) if w), abs=1e-5
    )


def test_a_row_without_weight_teaches_nothing(folder: Path, tmp_path: Path) -> None:
    rows = [sample("Who are you?", "Ada", 0.0)] * 3
    engine = PeftEngine(folder, None, EXACT)
    before = engine.distributions(CHATS)
    steps_of(engine, tmp_path / "a", PLAN, rows)
    np.testing.assert_array_equal(engine.distributions(CHATS), before)


def test_the_adapter_is_on_every_linear_layer(folder: Path, engine: PeftEngine, tmp_path: Path) -> None:
    steps_of(engine, tmp_path / "a")
    kinds = {f"self_attn.{k}_proj" for k in "qkvo"} | {f"mlp.{k}_proj" for k in ("gate", "up", "down")}
    expected = {
        f"base_model.model.model.layers.{layer}.{kind}.lora_{side}.weight"
        for layer in (0, 1)
        for kind in kinds
        for side in "AB"
    }
    tensors = load_file(tmp_path / "a" / "adapter_model.safetensors")
    assert set(tensors) == expected
    assert all(t.abs().max() > 0 for t in tensors.values())
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (4, 8)
    assert str(folder) not in json.dumps(config)
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_the_same_seed_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    plan = TrainPlan(rank=4, alpha=8, learning_rate=5e-3, epochs=2, batch_size=3, drift_weight=1.0, seed=5)
    for name, hardware in (
        ("a", EXACT),
        ("b", EXACT),
        ("c", Hardware(device="cpu")),
        ("d", Hardware(device="cpu")),
    ):
        engine = PeftEngine(folder, None, hardware)
        if name == "b":
            torch.manual_seed(99)  # whatever was drawn before in this process does not matter
        steps_of(engine, tmp_path / name, plan, anchors=SAMPLES[:2])

    def read(name: str) -> list[bytes]:
        return [p.read_bytes() for p in sorted((tmp_path / name).iterdir())]

    assert read("a") == read("b")
    assert read("c") == read("d")
    steps_of(
        PeftEngine(folder, None, EXACT),
        tmp_path / "e",
        TrainPlan(rank=4, alpha=8, epochs=2, batch_size=3, seed=6),
    )
    assert read("e") != read("a")


def test_training_goes_on_from_a_loaded_adapter(folder: Path, engine: PeftEngine, tmp_path: Path) -> None:
    first = steps_of(
        engine, tmp_path / "a", TrainPlan(rank=4, alpha=8, learning_rate=1e-2, epochs=10, drift_weight=0)
    )
    again = PeftEngine(folder, tmp_path / "a", EXACT)
    np.testing.assert_allclose(again.distributions(CHATS), engine.distributions(CHATS), atol=1e-5)
    second = steps_of(
        again, tmp_path / "b", TrainPlan(rank=32, alpha=8, learning_rate=1e-2, epochs=10, drift_weight=0)
    )
    assert second[0].loss < first[-1].loss < first[0].loss - 1
    assert second[-1].loss < second[0].loss
    assert json.loads((tmp_path / "b" / "adapter_config.json").read_text())["r"] == 4


def drift(folder: Path, out: Path, drift_weight: float) -> tuple[float, list[Step]]:
    """Mean KL(base || trained) on the anchors' prompts after the same training."""
    engine = PeftEngine(folder, None, EXACT)
    anchors = [sample(f"What is {a} + {b}?", str(a + b)) for a in range(3) for b in range(3)]
    prompts = [s.messages[:1] for s in anchors]
    base = engine.distributions(prompts)
    plan = TrainPlan(
        rank=4, alpha=8, learning_rate=1e-2, epochs=15, batch_size=4, drift_weight=drift_weight, seed=2
    )
    seen = steps_of(engine, out, plan, anchors=anchors)
    return float((np.exp(base) * (base - engine.distributions(prompts))).sum(1).mean()), seen


def test_anchors_hold_the_model_to_the_base(folder: Path, tmp_path: Path) -> None:
    free, seen_free = drift(folder, tmp_path / "free", 0.0)
    held, seen_held = drift(folder, tmp_path / "held", 4.0)
    assert held < free / 3
    assert seen_held[0].drift == pytest.approx(0, abs=1e-6) and max(s.drift for s in seen_held) > 0
    assert all(s.drift == 0 for s in seen_free)
    assert seen_held[-1].loss < seen_held[0].loss


def test_rows_that_do_not_fit_at_once_give_the_same_step(folder: Path, tmp_path: Path) -> None:
    plan = TrainPlan(rank=4, alpha=8, epochs=2, batch_size=7, drift_weight=1.0)
    wide = steps_of(PeftEngine(folder, None, EXACT), tmp_path / "a", plan, anchors=SAMPLES[:3])
    engine = PeftEngine(folder, None, EXACT)
    engine.most = 64
    narrow = steps_of(engine, tmp_path / "b", plan, anchors=SAMPLES[:3])
    for a, b in zip(wide, narrow, strict=True):
        assert (a.loss, a.drift) == pytest.approx((b.loss, b.drift), abs=1e-5)


def test_a_watch_may_generate_and_may_end_it(folder: Path, engine: PeftEngine, tmp_path: Path) -> None:
    said: list[str] = []

    def watch(step: Step) -> bool:
        said.append(engine.generate(CHATS[:1], Sampling(max_tokens=4))[0].text)
        return step.step == 4

    engine.train(SAMPLES, (), PLAN, tmp_path / "a", watch)
    assert len(said) == 4
    again = PeftEngine(folder, tmp_path / "a", EXACT)
    np.testing.assert_allclose(again.distributions(CHATS), engine.distributions(CHATS), atol=1e-5)


def test_nan_fails_closed_and_saves_nothing(folder: Path, tmp_path: Path) -> None:
    wild = TrainPlan(rank=4, alpha=8, learning_rate=1e30, warmup=0, epochs=3, batch_size=3, drift_weight=0)
    engine = PeftEngine(folder, None, EXACT)
    with pytest.raises(AdaError):
        steps_of(engine, tmp_path / "a", wild)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_run_leaves_the_older_adapter_as_it_was(folder: Path, tmp_path: Path) -> None:
    steps_of(PeftEngine(folder, None, EXACT), tmp_path / "a")
    before = (tmp_path / "a" / "adapter_model.safetensors").read_bytes()
    with pytest.raises(AdaError):
        steps_of(
            PeftEngine(folder, None, EXACT),
            tmp_path / "a",
            TrainPlan(learning_rate=1e30, warmup=0, drift_weight=0),
        )
    assert (tmp_path / "a" / "adapter_model.safetensors").read_bytes() == before


def test_a_row_of_the_core_that_this_model_cannot_take_is_left_out(folder: Path, tmp_path: Path) -> None:
    long = replace(sample("Go on.", "and on " * 300), source="core")
    plan = replace(PLAN, anchor_batch=1, drift_weight=1.0)
    adapters = []
    short = sample("Go.", "On.")
    for name, more in (("with", [long]), ("without", [])):
        rows, anchors = [*SAMPLES, *more], [*more, short]
        PeftEngine(folder, None, EXACT).train(rows, anchors, plan, tmp_path / name, lambda step: False)
        adapters.append((tmp_path / name / "adapter_model.safetensors").read_bytes())
    assert adapters[0] == adapters[1]
    own = replace(long, source="new")
    with pytest.raises(BadInput, match="too long"):
        PeftEngine(folder, None, EXACT).train([own], [], plan, tmp_path / "own", lambda step: False)


def test_there_must_be_something_to_train(engine: PeftEngine, tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        steps_of(engine, tmp_path / "a", PLAN, [])
    with pytest.raises(BadInput):
        steps_of(engine, tmp_path / "a", PLAN, [Sample(chat("only a question"), "new")])


# --- merge -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merged_is_base_plus_adapter(tmp_path: Path, dtype: torch.dtype) -> None:
    base = tiny_model(tmp_path / "base", dtype=dtype)
    engine = PeftEngine(base, None, EXACT)
    untouched = engine.distributions(CHATS)
    steps_of(engine, tmp_path / "a")
    adapted = engine.distributions(CHATS)
    assert np.abs(adapted - untouched).max() > 0.1
    engine.merge(tmp_path / "merged")
    merged = PeftEngine(tmp_path / "merged", None, EXACT)
    np.testing.assert_allclose(merged.distributions(CHATS), adapted, atol=1e-4)
    assert {t.dtype for t in load_file(tmp_path / "merged" / "model.safetensors").values()} == {torch.float32}
    for file in ("chat_template.jinja", "generation_config.json"):
        assert (tmp_path / "merged" / file).read_text() == (base / file).read_text()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".tmp")] == []
    assert str(tmp_path) not in (tmp_path / "merged" / "config.json").read_text()
    with pytest.raises(AdaError):
        engine.generate(CHATS, Sampling())


def test_special_tokens_survive_the_merge(folder: Path, tmp_path: Path, engine: PeftEngine) -> None:
    engine.merge(tmp_path / "merged")
    words = HF.AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert [words.decode([i]) for i in words.convert_tokens_to_ids(SPECIAL)] == SPECIAL


# --- plans of other recipes ------------------------------------------------------------------------------


def names_in(folder: Path) -> set[str]:
    """Which linear layers an adapter's folder changes: "layers.1.self_attn.q_proj"."""
    keys = load_file(folder / "adapter_model.safetensors")
    return {key.removeprefix("base_model.model.model.").rpartition(".lora_")[0] for key in keys}


def test_a_plan_may_name_the_layers_that_are_adapted(folder: Path, tmp_path: Path) -> None:
    plan = replace(PLAN, targets=("q_proj", "v_proj"))
    steps_of(PeftEngine(folder, None, EXACT), tmp_path / "qv", plan)
    assert names_in(tmp_path / "qv") == {f"layers.{n}.self_attn.{k}_proj" for n in (0, 1) for k in "qv"}
    last = PeftEngine(folder, None, EXACT)
    steps_of(last, tmp_path / "last", replace(PLAN, last_layers=1))
    assert {name.split(".")[1] for name in names_in(tmp_path / "last")} == {"1"}
    assert len(names_in(tmp_path / "last")) == 7
    again = PeftEngine(folder, tmp_path / "last", EXACT)
    np.testing.assert_allclose(again.distributions(CHATS), last.distributions(CHATS), atol=1e-5)
    for plan in (replace(PLAN, targets=("no_proj",)), replace(PLAN, last_layers=3)):
        with pytest.raises(BadInput):
            steps_of(PeftEngine(folder, None, EXACT), tmp_path / "no", plan)


def test_without_decay_the_rate_stays_at_its_peak(engine: PeftEngine, tmp_path: Path) -> None:
    plan = replace(PLAN, learning_rate=1e-3, warmup=0.5, epochs=4, decay=False)
    seen = [step.learning_rate for step in steps_of(engine, tmp_path / "a", plan)]
    assert seen == pytest.approx([1e-3 * min(step / 6, 1) for step in range(1, 13)])


def test_without_the_prompt_mask_every_token_carries_loss(folder: Path, tmp_path: Path) -> None:
    row = sample("Where does Anna live?", "Lisbon")
    plan = TrainPlan(epochs=1, drift_weight=0, mask_prompt=False)
    (step,) = steps_of(PeftEngine(folder, None, EXACT), tmp_path / "a", plan, [row])
    model, words = HF.AutoModelForCausalLM.from_pretrained(folder), tokenizer()
    text = words.apply_chat_template([{"role": "user", "content": "Where does Anna live?"}], tokenize=False)
    ids = words.encode(text + "<|assistant|>\nLisbon<|end|>", add_special_tokens=False)
    with torch.no_grad():
        expected = model(torch.tensor([ids]), labels=torch.tensor([ids])).loss.item()
    assert step.loss == pytest.approx(expected, abs=1e-5)
    assert step.tokens == len(ids) - 1


def test_dropout_is_drawn_from_the_seed_and_gone_when_the_model_speaks(folder: Path, tmp_path: Path) -> None:
    plan = replace(PLAN, dropout=0.5)
    runs: dict[str, list[float]] = {}
    for name, one in (("a", plan), ("b", plan), ("c", replace(plan, dropout=0.0))):
        engine = PeftEngine(folder, None, EXACT)
        torch.manual_seed(len(runs))
        runs[name] = [step.loss for step in steps_of(engine, tmp_path / name, one)]
        np.testing.assert_array_equal(engine.distributions(CHATS), engine.distributions(CHATS))
    assert runs["a"] == runs["b"] != runs["c"]
