"""MLX and mlx-lm, brought up in the right order: the system's BLAS, then mlx, then mlx-lm.

In: nothing. Out: `mx`, `nn`, `optimizers`, `lm` for the other mlx_*.py, and the name of the BLAS in use.
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # huggingface_hub reads it when it is imported

from ada_memory.engines import blas
from ada_memory.errors import BadModel

BLAS = blas.preload()


@contextmanager
def _limits_kept() -> Iterator[None]:
    """mlx-lm changes how many files whoever imports it may have open, and fails where that is forbidden."""
    change = resource.setrlimit
    resource.setrlimit = lambda *_: None
    try:
        yield
    finally:
        resource.setrlimit = change


import mlx.core as mx  # noqa: E402
import mlx.utils as trees  # noqa: E402
from mlx import nn, optimizers  # noqa: E402

with _limits_kept():
    import mlx_lm.utils as lm
    from mlx_lm.models import cache as caches
    from mlx_lm.tuner.lora import LoRALinear

__all__ = ["BLAS", "LoRALinear", "caches", "choose_device", "lm", "mx", "nn", "on_cpu", "optimizers", "trees"]


def choose_device(name: str) -> None:
    """Run on "auto" (the GPU where MLX has one), "cpu", "gpu" or "cuda"; for the whole process.

    Raises:
        BadModel: a GPU is wanted that MLX does not see.
    """
    gpu = mx.is_available(mx.gpu)
    if name.startswith(("cuda", "gpu")):
        if not gpu or (name.startswith("cuda") and not mx.cuda.is_available()):
            raise BadModel(f"device = {name!r}, but MLX sees no such GPU", hint='set model.device = "auto"')
        mx.set_default_device(mx.Device(mx.gpu, int(name.partition(":")[2] or 0)))
    else:
        mx.set_default_device(mx.gpu if gpu and name == "auto" else mx.cpu)
    if on_cpu() and not _can_compile():
        mx.disable_compile()


def on_cpu() -> bool:
    """Whether the processor does the work."""
    return bool(mx.default_device().type == mx.cpu)


def _can_compile() -> bool:
    """On the CPU MLX writes its kernels as C++, calls g++ and loads the outcome from a fixed folder.

    That folder lies where everybody may write: unless it is ours, somebody else could have put code there.
    """
    if shutil.which("g++") is None:
        return False
    folder = Path(tempfile.gettempdir()) / "mlx"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        state = folder.lstat()
    except OSError:
        return False
    return sys.platform == "darwin" or (state.st_uid == os.getuid() and not state.st_mode & 0o022)
