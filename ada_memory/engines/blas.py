"""OpenBLAS for MLX on Linux: found and loaded before MLX asks for a BLAS.

In: what the system has installed. Out: the library, or none. MLX's Linux wheel brings the reference BLAS; a
1024x1024 product ran at 5 GFLOP/s with it and at 84 with OpenBLAS on two busy cores. The loader takes the
first library that has the name it looks for, so one that is loaded for everybody goes before the wheel's own.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import sys

NAMES = ("openblas", "openblasp", "openblaso")
"""As Debian and Arch call it, then Fedora with its own threads and with OpenMP."""

_loaded: list[ctypes.CDLL] = []


def find() -> str | None:
    """The name of the OpenBLAS that the system has, None without one; where MLX brings its own, "MLX"."""
    if sys.platform != "linux":
        return "MLX"
    return next((found for name in NAMES if (found := ctypes.util.find_library(name))), None)


def preload() -> str | None:
    """Load OpenBLAS for the whole process; None where there is none. Must run before MLX is imported."""
    name = find()
    if sys.platform != "linux" or name is None:
        return name
    try:
        _loaded.append(ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL))
    except OSError:  # made for another processor, or half removed: MLX works without
        return None
    return name


def set_threads(threads: int) -> None:
    """How many threads a product may use; 0 leaves it at all cores."""
    for library in _loaded:
        if threads and hasattr(library, "openblas_set_num_threads"):
            library.openblas_set_num_threads(ctypes.c_int(threads))
