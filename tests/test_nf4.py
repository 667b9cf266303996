"""Bases packed to 4 bits by bitsandbytes: what is packed, that adapters learn over it, what a merge writes.

Small random weights on the CPU. No CUDA kernel is run here.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors import safe_open

from ada_memory.engines import memory
from ada_memory.engines.engine import Hardware, Sampling, has_mlx, open_engine
from ada_memory.engines.peft import PeftEngine
from ada_memory.engines.peft_load import new_adapter, packed_layers
from ada_memory.engines.peft_optimizer import Optimizer
from ada_memory.engines.peft_rows import pack, reply_logits
from ada_memory.engines.peft_step import Part, Plain, Quick, Trainee, way
from ada_memory.engines.text import Row
from ada_memory.errors import BadModel
from ada_memory.forge.merge import fidelity
from ada_memory.settings import Home, ModelSettings, Settings
from ada_memory.sovereign import choosing
from tests import architectures
from tests.models import CHATS, EXACT, PLAN, SAMPLES, steps_of, tiny_model

NF4 = Hardware(device="cpu", dtype="nf4", threads=1)
PACKS = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None,
    reason="bitsandbytes is not here: pip install 'ada-memory[nf4]'",
)
LEARN = replace(PLAN, epochs=4, learning_rate=1e-2, drift_weight=1.0)
QWEN: dict[str, Any] = {
    "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
    "intermediate_size": 4864, "vocab_size": 151936, "tie_word_embeddings": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def learned(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """An adapter that was trained over the packed base, and what base and adapter then said."""
    engine = open_engine("peft", folder, None, NF4)
    engine.generate(CHATS, Sampling(max_tokens=4))  # speaking first must not keep it from learning
    out = tmp_path_factory.mktemp("learned") / "adapter"
    seen = steps_of(engine, out, LEARN, SAMPLES, SAMPLES[:3])
    assert seen[-1].loss < 0.8 * seen[0].loss and seen[0].drift == 0 < seen[-1].drift
    return out, engine.distributions(CHATS)


# --- without bitsandbytes ----------------------------------------------------------------------------------


def test_without_bitsandbytes_the_error_teaches(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)  # as if it were not installed
    with pytest.raises(BadModel, match="needs bitsandbytes") as caught:
        open_engine("peft", folder, None, NF4)
    assert "pip install bitsandbytes" in caught.value.hint


def test_a_device_without_kernels_is_refused(folder: Path) -> None:
    with pytest.raises(BadModel, match="not on meta") as caught:
        open_engine("peft", folder, None, Hardware(device="meta", dtype="nf4"))
    assert "model.device" in caught.value.hint


@pytest.mark.skipif(not has_mlx(), reason="MLX is made for Apple silicon and Linux, and is not here")
def test_mlx_says_that_it_has_its_own(folder: Path) -> None:
    with pytest.raises(BadModel, match="nf4") as caught:
        open_engine("mlx", folder, None, NF4)
    assert "peft" in caught.value.hint


def test_it_is_a_setting() -> None:
    assert ModelSettings(dtype="nf4").dtype == "nf4"
    with pytest.raises(ValidationError):
        ModelSettings.model_validate({"dtype": "nf5"})


def test_a_merged_folder_is_not_packed_again(folder: Path, tmp_path: Path) -> None:
    engine = open_engine("peft", folder, None, EXACT)
    before = engine.distributions(CHATS)
    engine.merge(tmp_path / "merged")
    merged = PeftEngine(tmp_path / "merged", None, NF4)  # needs no bitsandbytes
    np.testing.assert_allclose(merged.distributions(CHATS), before, atol=1e-5)
    assert not packed_layers(merged._model)


def test_the_estimate_knows_what_is_packed() -> None:
    weights = {
        dtype: memory.estimate(QWEN, dtype=dtype, device="cuda").weights
        for dtype in ("auto", "float32", "bfloat16", "nf4")
    }
    outer = 151936 * 896
    inner = memory.shape(QWEN).parameters - outer
    assert weights["auto"] == weights["bfloat16"] == weights["float32"] // 2 == 2 * (inner + outer)
    assert weights["nf4"] == pytest.approx(2 * outer + 0.55 * inner, rel=1e-3)
    apart = memory.estimate(QWEN | {"tie_word_embeddings": False}, dtype="nf4").weights
    assert apart == pytest.approx(4 * outer + 0.55 * inner, rel=1e-3)
    tight = weights["bfloat16"] + (2 << 30)
    packed, plain = (memory.fit(QWEN, PLAN, tight, dtype=dtype) for dtype in ("nf4", "bfloat16"))
    assert packed.total < plain.total or packed.tokens > plain.tokens


def test_moving_to_a_model_says_what_it_costs_packed(tmp_path: Path) -> None:
    model = architectures.make("qwen3", tmp_path / "qwen3")
    plain, packed = (
        choosing.plan(Home(tmp_path / "home"), Settings(model=ModelSettings(dtype=dtype)), str(model))
        for dtype in ("bfloat16", "nf4")
    )
    assert packed.train < plain.train and packed.serve == plain.serve


# --- with it -----------------------------------------------------------------------------------------------


@PACKS
def test_the_linear_layers_are_packed_and_nothing_else(folder: Path) -> None:
    model = PeftEngine(folder, None, NF4)._model
    packed = packed_layers(model)
    kinds = {name.rpartition(".")[2] for name in packed}
    assert kinds == {f"{kind}_proj" for kind in ("q", "k", "v", "o", "gate", "up", "down")}
    assert len(packed) == 7 * 2
    assert model.dtype is model.get_input_embeddings().weight.dtype is torch.bfloat16
    assert model.get_output_embeddings().weight.dtype is torch.bfloat16
    held = sum(p.numel() * p.element_size() for p in model.parameters())
    for layer in packed.values():
        state = layer.weight.quant_state
        assert state.quant_type == "nf4" and state.nested and layer.compute_dtype is torch.bfloat16
        held += state.absmax.numel() + 4 * state.state2.absmax.numel()
    assert memory.estimate(model.config.to_dict(), dtype="nf4").weights == pytest.approx(held, rel=0.1)


@PACKS
def test_an_adapter_over_it_is_one_like_any_other(
    folder: Path, learned: tuple[Path, Any], tmp_path: Path
) -> None:
    adapter, said = learned
    again = open_engine("peft", folder, adapter, NF4)
    np.testing.assert_array_equal(again.distributions(CHATS), said)
    steps_of(open_engine("peft", folder, None, EXACT), tmp_path / "plain")
    assert sorted(path.name for path in adapter.iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors",
    ]  # fmt: skip
    with (
        safe_open(adapter / "adapter_model.safetensors", "pt") as ours,
        safe_open(tmp_path / "plain" / "adapter_model.safetensors", "pt") as theirs,
    ):
        assert set(ours.keys()) == set(theirs.keys())
        assert all(ours.get_tensor(name).dtype is torch.float32 for name in ours.keys())  # noqa: SIM118
    steps_of(again, tmp_path / "more", LEARN)  # and is carried on


@PACKS
def test_the_same_run_gives_the_same_bytes(
    folder: Path, learned: tuple[Path, Any], tmp_path: Path
) -> None:
    steps_of(open_engine("peft", folder, None, NF4), tmp_path / "again", LEARN, SAMPLES, SAMPLES[:3])
    for file in (tmp_path / "again").iterdir():
        assert file.read_bytes() == (learned[0] / file.name).read_bytes()


@PACKS
@pytest.mark.parametrize("recompute", [False, True])
def test_the_quick_way_has_the_gradient_of_the_plain_one(folder: Path, recompute: bool) -> None:
    model = new_adapter(PeftEngine(folder, None, NF4)._model, replace(PLAN, rank=3))
    drawn = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1, generator=drawn)
    rows = [Row([5 + i, 9, 30 + i], [7 + i, 8]) for i in range(4)]
    assert isinstance(way(model, 0, True, rows), Quick)
    part = Part(rows, [0.5, 1.0, 0.0], [0], 0.25)
    base = [p.detach().clone() for p in model.parameters() if not p.requires_grad]
    found = []
    for through in (Plain(model, 0, True), Quick(model, 0, torch.bfloat16)):
        optimizer = Optimizer(model, PLAN)
        assert optimizer.weights.numel() == sum(p.numel() for n, p in model.named_parameters() if "lora" in n)
        trainee = Trainee(model, through, 100)
        trainee.recompute_layers(recompute)
        trainee.way.learn(part)
        trainee.recompute_layers(False)
        found.append(optimizer.gradient.clone())
        optimizer.release()
    plain, quick = found
    assert torch.nn.functional.cosine_similarity(plain, quick, dim=0) > 0.99
    assert float(quick.norm()) == pytest.approx(float(plain.norm()), rel=0.05)
    after = [p for p in model.parameters() if not p.requires_grad]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(base, after, strict=True))
    with torch.no_grad():
        assert torch.isfinite(reply_logits(model, pack(rows, 0, model.device), True)).all()


@PACKS
@pytest.mark.parametrize("dtype", ["auto", "bfloat16"])
def test_a_merge_is_what_was_trained(
    folder: Path, learned: tuple[Path, Any], tmp_path: Path, dtype: str
) -> None:
    adapter, _ = learned
    PeftEngine(folder, adapter, NF4).merge(tmp_path / "merged", dtype)
    assert "quantization_config" not in json.loads((tmp_path / "merged" / "config.json").read_text())
    merged, adapted = PeftEngine(tmp_path / "merged", None, NF4), PeftEngine(folder, adapter, NF4)
    found = fidelity(merged, adapted, CHATS)
    assert found["kl"] <= 0.01 and found["top1"] >= 0.98
    assert not packed_layers(merged._model)
    # over the weights that the base had before it was packed it is another model
    assert fidelity(PeftEngine(folder, adapter, EXACT), adapted, CHATS)["kl"] > 0.01


@PACKS
def test_a_base_is_unpacked_without_an_adapter_too(folder: Path, tmp_path: Path) -> None:
    engine = PeftEngine(folder, None, NF4)
    said = engine.distributions(CHATS)
    engine.merge(tmp_path / "merged")
    merged = PeftEngine(tmp_path / "merged", None, EXACT)
    kl = (np.exp(said) * (said - merged.distributions(CHATS))).sum(1).mean()
    assert kl <= 0.01
