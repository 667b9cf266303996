"""The index gives back what was put in, and can always be thrown away."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ada_memory.errors import BadIndex, BadInput, JournalError
from ada_memory.hippocampus.vectors import Vectors, exact


@pytest.fixture
def vectors(tmp_path: Path) -> Iterator[Vectors]:
    with Vectors(tmp_path / "chroma", "e1") as opened:
        yield opened


def rows(n: int, d: int = 32, seed: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def names(n: int) -> list[str]:
    return [f"m{i:06}-0" for i in range(n)]


def test_the_nearest_come_first_with_their_cosine(vectors: Vectors) -> None:
    matrix = rows(60)
    vectors.upsert(names(60), matrix)
    query = rows(1, seed=2)[0]
    found = vectors.query(query, 5)
    true = exact(names(60), matrix, query, 5)
    assert [name for name, _ in found] == [name for name, _ in true]
    assert [value for _, value in found] == pytest.approx([value for _, value in true], abs=1e-5)
    cosine = float(matrix[3] @ query / np.linalg.norm(matrix[3]) / np.linalg.norm(query))
    assert dict(exact(names(60), matrix, query, 60))["m000003-0"] == pytest.approx(cosine, abs=1e-6)


def test_upsert_replaces_and_clear_starts_anew(vectors: Vectors) -> None:
    vectors.upsert(names(5), rows(5))
    vectors.upsert(names(3), rows(3, seed=9))
    assert vectors.count() == 5
    assert vectors.query(rows(3, seed=9)[2], 1)[0][0] == "m000002-0"
    vectors.clear()
    assert vectors.count() == 0
    vectors.upsert(["a", "b"], rows(2))
    assert {name for name, _ in vectors.query(rows(1)[0], 99)} == {"a", "b"}
    vectors.clear()
    assert vectors.query(rows(1)[0], 3) == []


def test_it_is_there_after_a_restart_and_embedders_do_not_mix(tmp_path: Path) -> None:
    with Vectors(tmp_path, "e1") as first:
        first.upsert(names(4), rows(4))
    with Vectors(tmp_path, "e2") as second:
        assert second.count() == 0
        second.upsert(["x"], rows(1, d=7))
    with Vectors(tmp_path, "e1") as again:
        assert again.count() == 4
        assert again.query(rows(4)[1], 1)[0][0] == "m000001-0"


@pytest.mark.parametrize("files", ["chroma.sqlite3", "*/*.bin"])
def test_damage_is_told_by_its_name_and_can_be_cleared(tmp_path: Path, files: str) -> None:
    with Vectors(tmp_path, "e1") as first:
        first.upsert(names(2_000), rows(2_000))
    damaged = list(tmp_path.glob(files))
    assert damaged
    for path in damaged:
        path.write_bytes(b"not what Chroma wrote " * 100)
    with Vectors(tmp_path, "e1") as vectors:
        with pytest.raises(BadIndex):
            vectors.count()
            vectors.query(rows(1)[0], 3)
        vectors.clear()
        vectors.upsert(names(3), rows(3))
        assert vectors.query(rows(3)[1], 1)[0][0] == "m000001-0"


def test_widths_and_numbers_must_agree(vectors: Vectors) -> None:
    vectors.upsert(names(2), rows(2))
    with pytest.raises(BadInput):
        vectors.upsert(["x"], rows(1, d=3))
    with pytest.raises(BadInput):
        vectors.upsert(["x"], rows(2))
    with pytest.raises(BadInput):
        exact(names(2), rows(2), rows(1, d=3)[0], 1)
    with pytest.raises(BadInput):
        exact(names(1), rows(2), rows(1)[0], 1)
    with pytest.raises(BadInput):
        vectors.query(rows(1, d=3)[0], 1)


def test_one_owner(vectors: Vectors, tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="in use"):
        Vectors(tmp_path / "chroma", "e1")
    vectors.close()
    vectors.close()
    Vectors(tmp_path / "chroma", "e1").close()


def test_exact_is_brute_force() -> None:
    matrix, query = rows(300), rows(1, seed=5)[0]
    cosines = [float(row @ query / np.linalg.norm(row) / np.linalg.norm(query)) for row in matrix]
    by_hand = sorted(zip(names(300), cosines, strict=True), key=lambda pair: -pair[1])
    for k in (0, 1, 7, 300, 999):
        found = exact(names(300), matrix, query, k)
        assert [name for name, _ in found] == [name for name, _ in by_hand[:k]]
    assert exact([], rows(0, d=0), query, 3) == []
    assert exact(["zero"], np.zeros((1, 32), dtype=np.float32), query, 1) == [("zero", 0.0)]


def test_chroma_holds_no_text_and_is_imported_late(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from ada_memory.hippocampus.vectors import Vectors\n"
        "from ada_memory.hippocampus import encode, journal, recall\n"
        "Vectors(Path(sys.argv[1]), 'e1').close()\n"
        "heavy = {'chromadb', 'torch', 'transformers', 'sentence_transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=60)
