"""What a training run will hold in memory, from the numbers of a config.json; and what if it was too much.

In: a config, a plan, tokens at a time. Out: bytes, by what they are for. No torch here and no weights are
read, so anyone can say what a night will cost before it starts.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from ada_memory.engines.engine import TrainPlan
from ada_memory.errors import AdaError

SMALL = 200_000_000
"""Parameters below which a model is held in float32 on the CPU, so that nothing is rounded."""
WIDE_SHARE = 0.25
"""Share of the machine's memory that a larger one may take in float32, where a CPU is slow with bfloat16."""
TOKENS = 8_192
"""Most tokens that are run at a time."""
LEAST = 256
"""Fewest tokens at a time before activations are computed twice instead of kept."""
PACKED = 0.55
"""Bytes a weight in 4 bits: half a byte, its share of the scales, and what is unpacked at a time."""
SPARE = 0.8
"""Share of the free memory that a run is fitted into; the rest is for what no formula knows."""
_SHORT = (
    "can't allocate memory", "not enough memory", "out of memory", "alloc_failed",  # torch
    "unable to allocate", "attempting to allocate", "insufficient memory",  # MLX
)  # fmt: skip
OURS = TrainPlan()
"""The plan that is meant where none is named."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes that decide what a model needs.

    `parameters` is its count of weights, `outer` that of its embeddings and output, which are never packed.
    """

    hidden: int
    layers: int
    inner: int
    queries: int
    keys: int
    vocabulary: int
    parameters: int
    outer: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes at the highest point of a training run; `tokens` are run at a time."""

    weights: int
    adapter: int
    activations: int
    logits: int
    tokens: int
    checkpointing: bool

    @property
    def total(self) -> int:
        """All of it together."""
        return self.weights + self.adapter + self.activations + self.logits


def shape(config: Mapping[str, Any], parameters: int | None = None) -> Shape:
    """Read a config.json; weights are counted from it unless their number is known better.

    A number that it lacks is taken to be small rather than refused: an estimate is not a check.
    """
    text: Mapping[str, Any] = config.get("text_config") or config
    hidden = int(text.get("hidden_size") or 1)
    layers = int(text.get("num_hidden_layers") or 1)
    heads = int(text.get("num_attention_heads") or 1)
    width = int(text.get("head_dim") or hidden // heads)
    inner = int(text.get("intermediate_size") or 4 * hidden)
    vocabulary = int(text.get("vocab_size") or 1)
    queries, keys = heads * width, int(text.get("num_key_value_heads") or heads) * width
    tied = bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", True)))
    layer = 2 * hidden * (queries + keys) + 3 * hidden * inner + 2 * hidden
    outer = (1 if tied else 2) * vocabulary * hidden
    counted = layers * layer + outer + hidden
    return Shape(hidden, layers, inner, queries, keys, vocabulary, parameters or counted, outer)


def estimate(
    config: Mapping[str, Any],
    plan: TrainPlan = OURS,
    tokens: int = TOKENS,
    *,
    parameters: int | None = None,
    device: str = "cpu",
    dtype: str = "auto",
    weights: int | None = None,
    checkpointing: bool = False,
) -> Estimate:
    """What training `tokens` tokens at a time will hold at its highest point, in bytes.

    `config` is a model's config.json; `parameters` its number of weights where it is known (the headers of
    its safetensors files), `device` "cpu" or "cuda", `dtype` that of `Hardware`, `weights` the bytes of a
    base whose size in memory is known. With `checkpointing` only what enters a layer is kept, and the layer
    is computed a second time on the way back.
    """
    of = shape(config, parameters)
    adapted = of.layers * plan.rank * (6 * of.hidden + 2 * of.queries + 2 * of.keys + 3 * of.inner)
    width = 4 if dtype == "float32" else 2
    layer = width * (8 * of.hidden + 4 * of.queries + 4 * of.keys + 5 * of.inner + 7 * plan.rank)
    kept = of.layers * width * of.hidden + layer if checkpointing else of.layers * layer
    return Estimate(
        weights=_weights(of, device, dtype) if weights is None else weights,
        adapter=adapted * 4 * 4,  # float32: the weights, their gradients, AdamW's two moments
        activations=tokens * (kept + 4 * width * of.hidden),
        logits=3 * 4 * of.vocabulary * min(tokens, max(2**26 // of.vocabulary, 1)),
        tokens=tokens,
        checkpointing=checkpointing,
    )


def fit(
    config: Mapping[str, Any],
    plan: TrainPlan,
    free: int,
    *,
    parameters: int | None = None,
    device: str = "cpu",
    dtype: str = "auto",
    weights: int | None = None,
    loaded: bool = False,
) -> Estimate:
    """The run that fits into `free` bytes: fewer tokens at a time first, then checkpointing.

    With `loaded` the weights are in memory already and do not count against `free`. If nothing fits, the
    smallest run is given: compare its `total` with what there is.
    """
    runs = []
    for checkpointing in (False, True):
        tokens = TOKENS
        while tokens >= LEAST:
            run = estimate(
                config, plan, tokens, parameters=parameters, device=device, dtype=dtype, weights=weights,
                checkpointing=checkpointing,
            )  # fmt: skip
            if run.total - (run.weights if loaded else 0) <= SPARE * free:
                return run
            runs.append(run)
            tokens //= 2
    return runs[-1]


def decoded(config: Mapping[str, Any], most: int, free: int) -> int:
    """Tokens that can be decoded at a time: keys and values of each, at 2 bytes, fit into half of `free`."""
    of = shape(config)
    return min(most, max(free // 2 // (2 * 2 * of.layers * of.keys), 1))


def held_wide(parameters: int) -> bool:
    """Whether a CPU holds a model in float32: small ones always, others where bfloat16 would be slow.

    (A processor without such instructions multiplied 17 GFLOP/s in bfloat16 and 156 in float32.)
    """
    return parameters < SMALL or (not fast_bfloat16() and 4 * parameters <= WIDE_SHARE * total_memory())


@cache
def fast_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware (training was 1.6 times faster with it)."""
    try:
        flags = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def gpu_memory() -> int | None:
    """Free bytes of the first NVIDIA GPU; None if there is none. No torch is needed to ask."""
    ask = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(ask, capture_output=True, text=True, timeout=10, check=True).stdout
        return int(said.split()[0]) << 20
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def total_memory() -> int:
    """Bytes of main memory that there are, for this container."""
    import psutil

    return min([int(psutil.virtual_memory().total), *memory_limits()])


def free_memory() -> int:
    """Bytes of main memory that can be taken without swapping, by a process of this container."""
    import psutil  # here, where a night or a question pays for it: the daemon reads limits alone

    return min([int(psutil.virtual_memory().available), *(limit - used for limit, used in _containers())])


def memory_limits() -> list[int]:
    """What a container may use, in bytes; empty if it is not limited."""
    return [limit for limit, _ in _containers()]


def _containers() -> Iterator[tuple[int, int]]:
    """The limit of the control group, of either version, and what of it is taken for good, in bytes."""
    for version, limit, used, cached in (
        ("", "memory.max", "memory.current", "inactive_file"),
        ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            group = Path("/sys/fs/cgroup") / version
            most = int((group / limit).read_text("ascii"))  # "max" is none
            rows = (group / "memory.stat").read_text("ascii").splitlines()
            given_back = {name: int(count) for name, count in map(str.split, rows)}.get(cached, 0)
            yield most, int((group / used).read_text("ascii")) - given_back
        except (OSError, ValueError):
            continue


def short_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the CPU, whichever library raised it."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or any(words in said for words in _SHORT)


class Divisible(Protocol):
    """A run that can be made smaller: `tokens` at a time; layers are computed twice if `recompute`."""

    tokens: int

    @property
    def recompute(self) -> bool: ...

    def recompute_layers(self) -> None: ...


def make_room(run: Divisible, longest: int) -> None:
    """Fewer tokens at a time, down to one row of `longest`; then activations are computed twice, not kept.

    Raises:
        AdaError: nothing is left to be made smaller.
    """
    if run.tokens > longest:
        run.tokens //= 2
    elif not run.recompute:
        run.recompute_layers()
    else:
        raise AdaError(
            f"there is not enough memory to train on a single row of {longest} tokens",
            hint="close other programs, shorten the longest samples, or use a smaller model",
        )


def _weights(of: Shape, device: str, dtype: str) -> int:
    """Bytes of a base in memory."""
    if dtype == "nf4":
        outer = min(of.outer, of.parameters)
        return 2 * outer + int(PACKED * (of.parameters - outer))
    if dtype == "float32":
        return 4 * of.parameters
    wide = dtype == "auto" and device == "cpu" and held_wide(of.parameters)
    copied = wide and fast_bfloat16()  # in bfloat16, to train with
    return of.parameters * (6 if copied else 4 if wide else 2)
