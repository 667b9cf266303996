"""The index over a mind's vectors: Chroma, embedded. Ids and float32 rows enter, neighbours leave.

It holds no text and nothing that the journal does not have: it can be dropped and refilled at any time.
Approximate by nature, so `exact` is here as well. chromadb is imported at the first use, not before.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self, cast

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from ada_memory.errors import BadIndex, BadInput, JournalError

if TYPE_CHECKING:
    from chromadb.api.client import Client
    from chromadb.api.models.Collection import Collection

Floats = NDArray[np.float32]
Near = list[tuple[str, float]]
LOCK = ".lock"
BATCH = 2_000  # rows handed to Chroma at a time; it refuses more than about 5,400


class Vectors:
    """An open index for one embedder; other embedders may have theirs in the same folder.

    Raises:
        JournalError: another process owns the folder.
    """

    def __init__(self, folder: Path, embedder: str) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.embedder = embedder
        self._folder = folder
        self._name = f"memories-{embedder}"
        self._lock = FileLock(folder / LOCK, thread_local=False, mode=0o600)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise JournalError(
                f"{folder} is in use by another process", hint="one daemon owns a mind: stop the other one"
            ) from None

    def close(self) -> None:
        """Let go of the folder. A second call does nothing."""
        self._let_go()
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @cached_property
    def _client(self) -> Client:
        import chromadb
        from chromadb.config import Settings

        quiet = Settings(anonymized_telemetry=False)
        try:
            with _sound():
                return cast("Client", chromadb.PersistentClient(str(self._folder), settings=quiet))
        except AttributeError as error:  # Chroma stumbles over its own clearing up and hides why it failed
            raise _damaged(error) from error

    @cached_property
    def _collection(self) -> Collection:
        return self._client.get_or_create_collection(
            self._name, embedding_function=None,
            configuration={"hnsw": {"space": "cosine", "ef_construction": 200, "ef_search": 200}},
        )

    def upsert(self, ids: Sequence[str], matrix: Floats) -> None:
        """Put rows in, or put them in again; `matrix` has shape (len(ids), d).

        Raises:
            BadInput: ids and rows differ in number, or rows in width from those that are there.
            BadIndex: the index is damaged.
        """
        if len(ids) != len(matrix):
            raise BadInput(f"{len(ids)} ids for {len(matrix)} vectors")
        from chromadb.errors import InvalidArgumentError, InvalidDimensionException

        for start in range(0, len(ids), BATCH):
            rows = np.ascontiguousarray(matrix[start : start + BATCH], dtype=np.float32)
            try:
                with _sound():
                    self._collection.upsert(list(ids[start : start + BATCH]), embeddings=rows)
            except (InvalidArgumentError, InvalidDimensionException) as error:
                raise BadInput(f"the index refuses vectors of width {rows.shape[1]}: {error}") from error

    def query(self, vector: Floats, k: int) -> Near:
        """About the k nearest ids with their cosine similarity, best first. May miss some.

        Raises:
            BadInput: the vector has another width than the rows.
            BadIndex: the index is damaged.
        """
        from chromadb.errors import InvalidArgumentError

        k = min(k, self.count())
        if k <= 0:
            return []
        query = np.asarray(vector, dtype=np.float32).reshape(1, -1)
        try:
            with _sound():
                found = self._collection.query(query_embeddings=query, n_results=k, include=["distances"])
        except InvalidArgumentError as error:
            raise BadInput(f"the index cannot be asked: {error}") from error
        ids, distances = found["ids"][0], (found["distances"] or [[]])[0]
        return [(name, 1.0 - float(distance)) for name, distance in zip(ids, distances, strict=True)]

    def count(self) -> int:
        """How many rows there are; raises BadIndex if it is damaged."""
        with _sound():
            return self._collection.count()

    def clear(self) -> None:
        """Remove the index's files, sound or not, and begin anew; the rows of other embedders go too."""
        from chromadb.api.shared_system_client import SharedSystemClient

        self._let_go()
        SharedSystemClient.clear_system_cache()  # a client that failed to open is kept there, and given again
        for path in self._folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != LOCK:
                path.unlink()

    def _let_go(self) -> None:
        if "_client" in self.__dict__:
            self._client.close()
            self.__dict__.pop("_client")
            self.__dict__.pop("_collection", None)


@contextmanager
def _sound() -> Iterator[None]:
    """What Chroma cannot do because its files are damaged, as BadIndex."""
    from chromadb.errors import ChromaError, InvalidArgumentError, InvalidDimensionException

    try:
        yield
    except (InvalidArgumentError, InvalidDimensionException):
        raise
    except ChromaError as error:
        raise _damaged(error) from error


def _damaged(error: Exception) -> BadIndex:
    return BadIndex(
        f"the index over the vectors is damaged: {error}",
        hint="start Ada again: it is filled anew from the journal",
    )


def exact(ids: Sequence[str], matrix: Floats, vector: Floats, k: int) -> Near:
    """The k nearest ids with their cosine similarity, best first, by looking at every row of (n, d).

    Rows need not have length 1; one of length 0 is like nothing.

    Raises:
        BadInput: the vector has another width than the rows, or ids and rows differ in number.
    """
    if len(ids) != len(matrix):
        raise BadInput(f"{len(ids)} ids for {len(matrix)} vectors")
    if k <= 0 or not len(ids):
        return []
    similarities = cosines(matrix, vector)
    k = min(k, len(ids))
    best = np.argpartition(-similarities, k - 1)[:k]
    best = best[np.lexsort((best, -similarities[best]))]
    return [(ids[i], float(similarities[i])) for i in best]


def cosines(matrix: Floats, vector: Floats) -> Floats:
    """Cosine of each row of (n, d) with a vector (d,); raises BadInput if the widths differ."""
    if matrix.ndim != 2 or vector.shape != matrix.shape[1:]:
        raise BadInput(f"a vector of shape {vector.shape} cannot be compared with rows {matrix.shape}")
    norms = np.linalg.norm(matrix, axis=1) * np.linalg.norm(vector)
    return np.asarray((matrix @ vector) / np.maximum(norms, 1e-12), dtype=np.float32)
