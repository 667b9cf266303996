"""What every runner of `ada bench forge` shares: the job it is given, its clock, its one line of JSON.

In: a job as one argument of JSON. Out: one line of JSON on standard output. No model library is imported
here; those that a runner has loaded by then are asked for their threads and their memory.
"""

from __future__ import annotations

import json
import platform
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Job:
    """One training run: the same for all contenders, but for `variant`, which is a contender's own.

    `data` is a folder with train.jsonl, chat rows whose number divides by `batch_size`; `updates` is
    epochs times batches. `scale` is LoRA's alpha / rank.
    """

    model: str
    data: str
    epochs: int
    batch_size: int
    updates: int
    rank: int
    scale: float
    learning_rate: float
    warmup: float
    seed: int
    variant: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def given(cls) -> Job:
        """The job in the first argument of this process."""
        return cls(**json.loads(sys.argv[1]))

    def words(self) -> str:
        """The job as that argument."""
        return json.dumps(asdict(self))

    def rows(self) -> list[list[dict[str, str]]]:
        """The messages of each row."""
        lines = (Path(self.data) / "train.jsonl").read_text("utf-8").splitlines()
        return [json.loads(line)["messages"] for line in lines]


class Clock:
    """Seconds and loss of each update. The first update carries whatever has to be warmed up."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.losses: list[float] = []
        self._last = time.perf_counter()

    def start(self) -> None:
        """The training begins now: model and data are loaded."""
        self._last = time.perf_counter()

    def step(self, loss: float | None = None, seconds: float | None = None) -> None:
        """An update is done; a contender that takes its own time says how many seconds it took."""
        now = time.perf_counter()
        self.seconds.append(now - self._last if seconds is None else seconds)
        self._last = now
        if loss is not None:
            self.losses.append(loss)


def report(job: Job, clock: Clock, trained: int, total: int, **more: object) -> None:
    """Print what was measured; `trained` and `total` are tokens of one epoch: of replies, and of all."""
    line = {
        "seconds": clock.seconds,
        "losses": clock.losses,
        "trained_tokens": trained,
        "total_tokens": total,
        "updates": len(clock.seconds),
        "variant": dict(job.variant),
        **peaks(),
        **more,
    }
    sys.stdout.flush()
    print("\n" + json.dumps(line), flush=True)  # noqa: T201


def peaks() -> dict[str, object]:
    """Peak memory of this process, its threads and its device."""
    out: dict[str, object] = {"peak_rss_mib": round(peak_rss() / 2**20, 1), "device": device_name()}
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        out["threads"] = torch.get_num_threads()
        if torch.cuda.is_available():
            out["peak_gpu_mib"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
    if mlx := _used_mlx():
        out["peak_mlx_mib"] = round(mlx.get_peak_memory() / 2**20, 1)
    return out


def device_name() -> str:
    """What this process computes on: the GPU by its name where the library in use has one, else the CPU."""
    mlx, torch = _used_mlx(), sys.modules.get("torch")
    if mlx and mlx.default_device() != mlx.Device(mlx.cpu):
        return str(mlx.device_info().get("device_name", "gpu"))
    if torch is not None and torch.cuda.is_available():
        return str(torch.cuda.get_device_name(0))
    return cpu_name()


def _used_mlx() -> Any:
    """MLX if something was computed with it: transformers loads it too, and leaves it alone."""
    mlx: Any = sys.modules.get("mlx.core")
    return mlx if mlx is not None and mlx.get_peak_memory() else None


def peak_rss() -> int:
    """Most resident memory that this process ever had, in bytes."""
    if sys.platform == "linux":  # getrusage would count the parent's, of before the exec
        status = Path("/proc/self/status").read_text("utf-8")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def cpu_name() -> str:
    """The processor by its own name, where it tells."""
    if sys.platform == "linux":
        info = Path("/proc/cpuinfo").read_text("utf-8")
        if name := info.partition("model name")[2].partition("\n")[0].strip(" \t:"):
            return name
    return platform.processor() or platform.machine()


def versions(names: Sequence[str]) -> dict[str, str]:
    """The installed version of each distribution that is there."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
