"""What is the MLX engine's own: bases in 4 bits, real architectures, the BLAS, how adapters change shape."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from ada_memory.engines import blas
from ada_memory.engines.engine import Sampling, choose_engine, has_mlx, open_engine, quantised
from ada_memory.engines.weights import changes
from ada_memory.errors import AdaError, BadModel
from tests import architectures
from tests.models import CHATS, EXACT, PLAN, QUESTIONS, SAMPLES, packed, steps_of, tiny_model

if not has_mlx():
    pytest.skip("MLX is made for Apple silicon and Linux, and is not here", allow_module_level=True)

LEARN = replace(PLAN, learning_rate=1e-2, drift_weight=1.0)


def train(engine: Any, out: Path) -> None:
    steps_of(engine, out, LEARN, anchors=SAMPLES[:2])


# --- a base in 4 bits --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def four_bits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models")
    return packed(tiny_model(made / "plain"), made / "packed")


def test_a_step_that_does_not_fit_is_made_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ada_memory.engines import mlx_train

    folder, whole, refused = tiny_model(tmp_path / "base"), mlx_train.pack, []

    def pack(rows: Any, *args: Any) -> Any:
        if sum(map(len, rows)) > 60:
            refused.append(len(rows))
            raise RuntimeError("[metal::malloc] Unable to allocate 60 bytes.")
        return whole(rows, *args)

    ample = steps_of(open_engine("mlx", folder, None, EXACT), tmp_path / "ample", LEARN)
    monkeypatch.setattr(mlx_train, "pack", pack)
    short = steps_of(open_engine("mlx", folder, None, EXACT), tmp_path / "short", LEARN)
    assert refused and [s.loss for s in short] == pytest.approx([s.loss for s in ample], abs=1e-5)
    monkeypatch.setattr(mlx_train, "pack", lambda *_: pack([range(99)]))
    with pytest.raises(AdaError, match="not enough memory"):
        steps_of(open_engine("mlx", folder, None, EXACT), tmp_path / "none", LEARN)


def test_a_packed_folder_is_known_and_goes_to_mlx(four_bits: Path) -> None:
    assert quantised(four_bits) and not quantised(four_bits.parent / "plain")
    assert choose_engine(four_bits) == "mlx"
    with pytest.raises(BadModel):
        open_engine("peft", four_bits, None, EXACT)


def test_an_adapter_survives_a_packed_base(four_bits: Path, tmp_path: Path) -> None:
    """Trained over 4 bits, served over 4 bits, merged without packing again: always the same model."""
    engine = open_engine("auto", four_bits, None, EXACT)
    untouched = engine.distributions(CHATS)
    train(engine, tmp_path / "adapter")
    said = engine.distributions(CHATS)
    assert np.abs(said - untouched).max() > 0.5
    served = open_engine("auto", four_bits, tmp_path / "adapter", EXACT)
    np.testing.assert_allclose(served.distributions(CHATS), said, atol=1e-5)
    replies = served.generate(CHATS, Sampling())
    served.merge(tmp_path / "merged")
    for name in ("mlx", "peft"):  # whole again, so everybody reads it
        merged = open_engine(name, tmp_path / "merged", None, EXACT)
        np.testing.assert_allclose(merged.distributions(CHATS), said, atol=1e-3)
        assert merged.generate(CHATS, Sampling()) == replies
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert not {"quantization", "quantization_config"} & set(config)
    with safe_open(tmp_path / "merged" / "model.safetensors", "np") as file:
        kinds = {file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118
    assert kinds == {np.dtype(np.float32)}


def test_what_changed_is_measured_against_the_unpacked_base(four_bits: Path, tmp_path: Path) -> None:
    engine = open_engine("mlx", four_bits, None, EXACT)
    train(engine, tmp_path / "adapter")
    engine.merge(tmp_path / "merged")
    found = changes(four_bits, tmp_path / "merged")
    kinds = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    assert found.not_finite == 0 and len(found.relative) == 2 * len(kinds)
    assert all(0 < change < 2 and name.split(".")[-2] in kinds for name, change in found.relative.items())


def test_packed_again_it_would_have_lost_what_it_learnt(four_bits: Path, tmp_path: Path) -> None:
    """Why a merge is not packed: the steps of 4 bits are larger than most of an adapter."""
    engine = open_engine("mlx", four_bits, None, EXACT)
    untouched = engine.distributions(CHATS)
    steps_of(engine, tmp_path / "adapter", replace(LEARN, learning_rate=1e-3))
    said = engine.distributions(CHATS)
    engine.merge(tmp_path / "merged")
    again = open_engine("mlx", packed(tmp_path / "merged", tmp_path / "again"), None, EXACT)
    lost = np.abs(again.distributions(CHATS) - said).mean()
    assert lost > 0.2 * np.abs(said - untouched).mean()


@pytest.mark.parametrize("chosen", [[5], [5, 9, 9, 30, 0, 0]])
def test_the_last_layer_does_without_the_tokens_that_nobody_reads(tmp_path: Path, chosen: list[int]) -> None:
    from ada_memory.engines.mlx_body import Body
    from ada_memory.engines.mlx_core import lm, mx, nn, trees

    model: Any = lm.load_model(tiny_model(tmp_path / "base"))[0]
    ids, where, seen = mx.arange(40).reshape(2, 20) + 5, mx.array(chosen), []

    def plain(model: Any) -> Any:
        return mx.sin(model.model(ids).reshape(40, -1)[where]).sum()

    def picked(_: Any) -> Any:
        return mx.sin(body.states(ids, where)).sum()

    expected, slope = nn.value_and_grad(model, plain)(model)
    body = Body(model)

    class Seen(nn.Linear):  # type: ignore[misc]
        def __call__(self, x: Any) -> Any:
            seen.append(x.size // x.shape[-1])
            return super().__call__(x)

    for layer in (model.layers[0], model.layers[-1]):
        layer.mlp.down_proj.__class__ = Seen
    found, ours = nn.value_and_grad(model, picked)(model)
    assert seen == [40, len(chosen)]
    assert float(found) == pytest.approx(float(expected), abs=1e-4)
    theirs = dict(trees.tree_flatten(slope))
    for name, gradient in trees.tree_flatten(ours):
        np.testing.assert_allclose(np.array(gradient), np.array(theirs[name]), atol=1e-4, err_msg=name)


# --- architectures -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", architectures.NAMES)
def test_a_family_is_the_same_model_in_both_engines(tmp_path: Path, family: str) -> None:
    wide = {"sliding_window": 512} if family == "gemma2" else {}
    base = architectures.make(family, tmp_path / "base", **wide)
    ours, theirs = (open_engine(name, base, None, EXACT) for name in ("mlx", "peft"))
    assert (ours.layers, ours.limit) == (theirs.layers, theirs.limit)
    np.testing.assert_allclose(ours.distributions(CHATS), theirs.distributions(CHATS), atol=1e-3)
    for layer in range(ours.layers + 1):
        np.testing.assert_allclose(ours.hidden(QUESTIONS, layer), theirs.hidden(QUESTIONS, layer), atol=1e-3)
    assert ours.generate(CHATS, Sampling(max_tokens=12)) == theirs.generate(CHATS, Sampling(max_tokens=12))
    train(ours, tmp_path / "adapter")
    said = ours.distributions(CHATS)
    read = open_engine("peft", base, tmp_path / "adapter", EXACT)
    np.testing.assert_allclose(read.distributions(CHATS), said, atol=1e-3)
    read.merge(tmp_path / "theirs")  # transformers words its config.json otherwise than the hub's folders
    ours.merge(tmp_path / "ours")
    for folder in ("ours", "theirs"):
        for name in ("mlx", "peft"):
            merged = open_engine(name, tmp_path / folder, None, EXACT)
            np.testing.assert_allclose(merged.distributions(CHATS), said, atol=2e-3)


@pytest.mark.parametrize("family", ["qwen3", "lfm2"])
def test_a_packed_family_merges_to_what_transformers_reads(tmp_path: Path, family: str) -> None:
    base = packed(architectures.make(family, tmp_path / "plain"), tmp_path / "packed")
    engine = open_engine("mlx", base, None, EXACT)
    train(engine, tmp_path / "adapter")
    said = engine.distributions(CHATS)
    engine.merge(tmp_path / "merged")
    merged = open_engine("peft", tmp_path / "merged", None, EXACT)
    np.testing.assert_allclose(merged.distributions(CHATS), said, atol=2e-3)


def test_gemma_2_is_read_no_further_than_it_is_right(tmp_path: Path) -> None:
    """mlx-lm has no sliding window for it: up to its length the two engines agree, and there it ends."""
    base = architectures.make("gemma2", tmp_path / "base", sliding_window=64)
    assert open_engine("mlx", base, None, EXACT).limit == 64
    assert open_engine("peft", base, None, EXACT).limit == 512


def test_an_unknown_architecture_is_refused(tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "model")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"model_type": "abacus"}))
    with pytest.raises(BadModel):
        open_engine("mlx", base, None, EXACT)


# --- adapters that are not plain LoRA ----------------------------------------------------------------------


@pytest.mark.parametrize("more", [{"use_dora": True}, {"rank_pattern": {"q_proj": 2}}])
def test_an_adapter_that_is_more_than_lora_is_refused(tmp_path: Path, more: dict[str, object]) -> None:
    base = tiny_model(tmp_path / "model")
    steps_of(open_engine("mlx", base, None, EXACT), tmp_path / "a", replace(PLAN, epochs=1))
    file = tmp_path / "a" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | more))
    with pytest.raises(BadModel, match=next(iter(more))):
        open_engine("mlx", base, tmp_path / "a", EXACT)


# --- the BLAS ----------------------------------------------------------------------------------------------

PRODUCT = """
import ctypes, json
from ada_memory.engines.mlx_core import BLAS, mx
a = mx.arange(64 * 64).reshape(64, 64).astype(mx.float32) / 4096
everybodys = hasattr(ctypes.CDLL(None), "openblas_get_config")
print(json.dumps([BLAS, everybodys, float((a @ a).sum().item())]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere MLX uses what the system has")
def test_openblas_is_loaded_before_mlx_where_the_system_has_it() -> None:
    done = subprocess.run([sys.executable, "-c", PRODUCT], capture_output=True, text=True, check=True)
    name, everybodys, total = json.loads(done.stdout)
    a = np.arange(64 * 64, dtype=np.float64).reshape(64, 64) / 4096
    assert total == pytest.approx((a @ a).sum(), rel=1e-4)
    assert name == blas.find() and everybodys == (name is not None)
