"""How much memory a night takes: looks at the daemon's sleeper from outside while it works.

A process id enters; the peaks of resident memory and, where nvidia-smi is, of GPU memory leave, in megabytes.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
from types import TracebackType
from typing import Self

import psutil

SLEEPER = "ada_memory.circadian.sleeper"
LOOK_SECONDS = 0.5
_GPU = ("--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits")
_GPU_SECONDS = 10


class Gauge:
    """Looks at the sleeper of the daemon `pid` until the block ends."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._resident = self._gpu = 0
        self._over = threading.Event()
        self._eye = threading.Thread(target=self._look, name="gauge", daemon=True)
        self._smi = shutil.which("nvidia-smi")

    def __enter__(self) -> Self:
        self._eye.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._eye.join()

    def peaks(self) -> dict[str, float | None]:
        """The largest figures seen: `sleeper`, and `gpu` (None without one). MB are 10⁶ bytes."""
        gpu = round(self._gpu * 1.048576, 1) if self._gpu else None  # nvidia-smi counts in MiB
        return {"sleeper": round(self._resident / 1e6, 1) or None, "gpu": gpu}

    def _look(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            for child in _sleepers(self._pid):
                try:
                    self._resident = max(self._resident, child.memory_info().rss)
                except psutil.Error:  # it has just ended
                    continue
                if self._smi:
                    self._gpu = max(self._gpu, _gpu_of(self._smi, child.pid))


def _sleepers(pid: int) -> list[psutil.Process]:
    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []
    found = []
    for child in children:
        try:
            if SLEEPER in child.cmdline():
                found.append(child)
        except psutil.Error:
            continue
    return found


def _gpu_of(program: str, pid: int) -> int:
    """MiB of GPU memory of one process; 0 if nobody can tell."""
    try:
        said = subprocess.run(
            [program, *_GPU], capture_output=True, text=True, timeout=_GPU_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    rows = [line.split(",") for line in said.stdout.splitlines()]
    return sum(int(r[1]) for r in rows if len(r) == 2 and r[0].strip() == str(pid) and r[1].strip().isdigit())
