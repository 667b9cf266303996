"""The real embedder, here and in its own process."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ada_memory.errors import BadModel
from ada_memory.hippocampus.embedder import DEFAULT, PINNED, embedder_hash, has_bf16, resolve, verify

WORKER = [sys.executable, "-m", "ada_memory.hippocampus.embed_worker"]
TEXTS = ["My cat is called Mo.", "The name of my pet is Mo.", "Shares fell in early trading.", "", "x " * 999]


class Child:
    """A worker that is spoken to line by line."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*WORKER, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, line: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.read()

    def read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        reply = json.loads(self.process.stdout.readline())
        assert isinstance(reply, dict)
        return reply

    def end(self) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        rest = self.process.stdout.read()
        self.process.stdout.close()
        assert rest == ""
        return self.process.wait(60)


@pytest.fixture(scope="module")
def child() -> Iterator[tuple[Child, dict[str, Any]]]:
    worker = Child("--batch-size", "2")
    yield worker, worker.read()
    assert worker.end() == 0


def test_the_worker_says_who_it_is(child: tuple[Child, dict[str, Any]]) -> None:
    assert child[1] == {"ready": True, "embedder": embedder_hash(resolve(DEFAULT)), "dim": 384}


def test_vectors_are_unit_length_and_like_meets_like(child: tuple[Child, dict[str, Any]]) -> None:
    reply = child[0].ask(json.dumps({"id": 7, "op": "encode", "texts": TEXTS}))
    assert (reply["id"], reply["ok"], reply["dim"]) == (7, True, 384)
    matrix = np.frombuffer(base64.b64decode(reply["vectors"]), dtype="<f4").reshape(len(TEXTS), 384)
    assert np.linalg.norm(matrix, axis=1) == pytest.approx(np.ones(len(TEXTS)), abs=1e-5)
    assert matrix[0] @ matrix[1] > 0.6 > 0.3 > matrix[0] @ matrix[2]
    again = child[0].ask(json.dumps({"id": 8, "op": "encode", "texts": TEXTS[1::-1]}))
    other = np.frombuffer(base64.b64decode(again["vectors"]), dtype="<f4").reshape(2, 384)
    assert np.abs(other - matrix[1::-1]).max() < 0.01


def test_no_texts_are_no_vectors(child: tuple[Child, dict[str, Any]]) -> None:
    assert child[0].ask('{"id": 1, "op": "encode", "texts": []}') == {
        "id": 1, "ok": True, "vectors": "", "dim": 384,
    }


@pytest.mark.parametrize(
    "line",
    [
        "{", "[]", '{"id": 3, "op": "sing"}', '{"id": 3, "op": "encode"}',
        '{"id": 3, "op": "encode", "texts": [1]}',
    ],
)
def test_a_bad_request_is_answered_and_survived(child: tuple[Child, dict[str, Any]], line: str) -> None:
    reply = child[0].ask(line)
    assert (reply["ok"], reply["type"]) == (False, "BadInput")
    assert reply["id"] == (3 if '"id"' in line else None)
    assert child[0].ask('{"id": 4, "op": "encode", "texts": ["half a pair \\ud800"]}')["ok"]


def test_a_model_that_cannot_be_read_is_said_so(tmp_path: Path) -> None:
    worker = Child("--name", str(tmp_path))
    reply = worker.read()
    assert (reply["ready"], reply["type"]) == (False, "BadModel")
    assert str(tmp_path) in reply["error"]
    assert worker.end() == 1


def test_changed_weights_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(resolve(DEFAULT), folder)
    verify(folder, PINNED)
    original = embedder_hash(folder)
    with (folder / "model.safetensors").open("r+b") as weights:
        weights.seek(1_000_000)
        byte = weights.read(1)
        weights.seek(1_000_000)
        weights.write(bytes([byte[0] ^ 1]))
    with pytest.raises(BadModel, match=r"model\.safetensors is not the official one"):
        verify(folder, PINNED)
    assert embedder_hash(folder) != original
    (folder / "vocab.txt").unlink()
    with pytest.raises(BadModel, match=r"vocab\.txt is missing"):
        verify(folder, {"vocab.txt": PINNED["vocab.txt"]})


def test_names_and_folders(tmp_path: Path) -> None:
    assert resolve(f"sentence-transformers/{DEFAULT}") == resolve(DEFAULT)
    assert resolve(str(tmp_path)) == tmp_path.resolve()
    with pytest.raises(BadModel, match="no embedder 'not a name!'"):
        resolve("not a name!")
    with pytest.raises(BadModel, match="safetensors"):
        embedder_hash(tmp_path)


def test_bf16_only_where_the_cpu_has_it(tmp_path: Path) -> None:
    cpu = tmp_path / "cpuinfo"
    assert not has_bf16(cpu)
    cpu.write_text("processor : 0\nflags\t\t: fpu sse2 avx512f\n")
    assert not has_bf16(cpu)
    cpu.write_text("processor : 0\nflags\t\t: fpu avx512_bf16 sse2\n")
    assert has_bf16(cpu)
