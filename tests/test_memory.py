"""What a model takes, and what is kept while it is trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ada_memory.engines import memory, remembered
from ada_memory.engines.memory import SMALL, decoded, gpu_memory, held_wide, short_of_memory
from ada_memory.engines.remembered import Remembered

QWEN = {
    "hidden_size": 896, "intermediate_size": 4_864, "num_hidden_layers": 24, "num_attention_heads": 14,
    "num_key_value_heads": 2, "vocab_size": 151_936,
}  # fmt: skip


def test_a_small_model_is_held_whole_and_a_large_one_where_bfloat16_is_slow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "total_memory", lambda: 24 << 30)
    monkeypatch.setattr(memory, "fast_bfloat16", lambda: True)
    assert held_wide(SMALL - 1) and not held_wide(SMALL)
    assert memory.estimate(QWEN, parameters=10**8).weights == 6 * 10**8, "a copy to train with"
    monkeypatch.setattr(memory, "fast_bfloat16", lambda: False)
    assert held_wide(494_000_000) and not held_wide(7_000_000_000), "no more than the machine can spare"
    assert memory.estimate(QWEN, parameters=10**8).weights == 4 * 10**8
    assert memory.estimate(QWEN, parameters=10**8, device="cuda").weights == 2 * 10**8


def test_a_long_cache_takes_fewer_chats_at_a_time() -> None:
    a_token = 2 * 2 * 24 * 128  # keys and values of 24 layers, two heads of 64, at two bytes
    assert decoded(QWEN, 65_536, 80 << 30) == 65_536
    assert decoded(QWEN, 65_536, 1 << 30) == (1 << 29) // a_token
    assert decoded(QWEN, 65_536, 0) == 1


@pytest.mark.parametrize(("said", "found"), [("23456\n12\n", 23_456 << 20), ("", None), ("N/A", None)])
def test_the_first_gpu_says_what_is_free(
    said: str, found: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\nprintf '{said}'\n", "utf-8")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_memory() == found


def test_without_a_gpu_there_is_nobody_to_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_memory() is None


def test_a_library_that_could_not_allocate_is_short_of_memory() -> None:
    assert short_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"))
    assert not short_of_memory(RuntimeError("shape '[2, 3]' is invalid"))


def test_the_oldest_states_give_way_but_not_those_that_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "MOST", 40)
    known: Remembered[np.ndarray] = Remembered()
    for anchor in range(5):
        known.remember([(anchor, np.zeros(10, np.uint8))], {0, anchor})
    assert list(known) == [0, 2, 3, 4]
    assert known.taken == sum(state.nbytes for state in known.values()) == 40
    known.remember([(9, np.zeros(100, np.uint8))], {9})
    assert list(known) == [9], "one that is larger than all that may be kept is needed all the same"
