"""What is found to have changed between two model folders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ada_memory.engines.weights import changes
from ada_memory.errors import BadModel

Weights = Mapping[str, torch.Tensor]
BASE: Weights = {
    "a": torch.tensor([[3.0, 4.0], [0.0, 0.0]]),
    "b": torch.tensor([[1.0, 0.0], [0.0, 0.0]]),
    "norm": torch.tensor([1.0, 1.0]),
}


def folder(path: Path, *files: Weights) -> Path:
    path.mkdir()
    for i, weights in enumerate(files):
        save_file(dict(weights), path / f"model-{i}.safetensors")
    return path


def pair(tmp_path: Path, **new: torch.Tensor) -> tuple[Path, Path]:
    return folder(tmp_path / "base", BASE), folder(tmp_path / "merged", {**BASE, **new})


def test_change_is_relative_to_the_norm_of_the_base(tmp_path: Path) -> None:
    found = changes(*pair(tmp_path, a=torch.tensor([[3.0, 4.0], [0.6, 0.8]])))
    assert found.relative == pytest.approx({"a": 0.2})
    assert found.not_finite == 0


def test_nothing_changed(tmp_path: Path) -> None:
    found = changes(*pair(tmp_path))
    assert (found.relative, found.not_finite) == ({}, 0)


def test_a_matrix_of_zeros_that_was_filled_is_a_huge_change(tmp_path: Path) -> None:
    base = folder(tmp_path / "base", {"z": torch.zeros(2, 2)})
    merged = folder(tmp_path / "merged", {"z": torch.ones(2, 2)})
    assert changes(base, merged).relative["z"] > 1e6


def test_nan_and_inf_are_counted_in_vectors_too(tmp_path: Path) -> None:
    nan, inf = float("nan"), float("inf")
    pair_ = pair(tmp_path, a=torch.tensor([[nan, 4.0], [inf, -inf]]), norm=torch.tensor([1.0, nan]))
    assert changes(*pair_).not_finite == 4


def test_changed_vectors_are_not_matrices(tmp_path: Path) -> None:
    assert changes(*pair(tmp_path, norm=torch.tensor([2.0, 1.0]))).relative == {}


def test_folders_may_be_cut_into_files_differently(tmp_path: Path) -> None:
    base = folder(tmp_path / "base", {"a": BASE["a"], "norm": BASE["norm"]}, {"b": BASE["b"]})
    merged = folder(
        tmp_path / "merged", {"a": BASE["a"]}, {"b": 3 * BASE["b"], "norm": BASE["norm"], "x": BASE["a"]}
    )
    assert changes(base, merged).relative == pytest.approx({"b": 2.0})


def test_half_precision_is_compared_in_full(tmp_path: Path) -> None:
    base = folder(tmp_path / "base", {"a": BASE["a"].bfloat16()})
    merged = folder(tmp_path / "merged", {"a": 1.5 * BASE["a"]})
    assert changes(base, merged).relative == pytest.approx({"a": 0.5})


def test_what_only_the_base_stores_is_not_compared(tmp_path: Path) -> None:
    base = folder(tmp_path / "base", BASE)
    merged = folder(tmp_path / "merged", {"a": 2 * BASE["a"], "norm": BASE["norm"]})
    assert changes(base, merged).relative == pytest.approx({"a": 1.0})


def test_a_second_copy_of_the_weights_is_not_read(tmp_path: Path) -> None:
    base, merged = pair(tmp_path)
    index = {"weight_map": dict.fromkeys(BASE, "model-0.safetensors")}
    for place in (base, merged):
        (place / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    save_file({"a": torch.zeros(5, 5), "layers.0.w": torch.ones(1)}, base / "consolidated.safetensors")
    assert changes(base, merged) == changes(merged, base)


def test_an_empty_folder_lacks_everything(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="lacks all"):
        changes(folder(tmp_path / "base", BASE), folder(tmp_path / "merged"))


def test_another_shape_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="another shape"):
        changes(*pair(tmp_path, a=torch.zeros(2, 3)))
