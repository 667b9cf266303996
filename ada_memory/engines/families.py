"""Which engines here can run a model. Its config.json enters, names of engines leave; no weights are read."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any, Literal

from ada_memory.engines.engine import has_mlx


def engines_for(config: Mapping[str, Any]) -> list[Literal["peft", "mlx"]]:
    """The engines that can run it, the one for any machine first; none if it writes no text, or is unknown.

    Weights that another tool has packed (GPTQ, AWQ, bitsandbytes) run in none; those of mlx-lm in mlx alone.
    """
    kind, built = str(config.get("model_type", "")), set(config.get("architectures") or ())
    packed = "quantization" in config
    found: list[Literal["peft", "mlx"]] = []
    causal = _causal(kind)
    if built and not built & causal:
        return []  # an encoder, or a head of another kind
    if not packed and "quantization_config" not in config and causal:
        found.append("peft")
    foreign = "quantization_config" in config and not packed
    if has_mlx() and not foreign and kind and importlib.util.find_spec(f"mlx_lm.models.{kind}") is not None:
        found.append("mlx")
    return found


def _causal(kind: str) -> set[str]:
    """The classes that write text for a model_type, as config.json names them; none if it is unknown."""
    # Imported here: it takes seconds.
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    names: str | tuple[str, ...] = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind, ())
    return {names} if isinstance(names, str) else set(names)
