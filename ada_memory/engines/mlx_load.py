"""Model and adapter folders: read into MLX, written from it.

In: local Hugging Face folders, also those that mlx-lm quantised; PEFT adapters; safetensors only. Out: an MLX
model, a tokenizer; PEFT adapters. Between PEFT and mlx-lm an adapter changes its names, its shapes (A is (r,
in) there and (in, r) here) and how its strength is written (alpha / r there, a scale here), in memory only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ada_memory.engines.engine import Hardware, TrainPlan
from ada_memory.engines.folder import adapter_weights, publish
from ada_memory.engines.mlx_core import LoRALinear, choose_device, lm, mx, nn, on_cpu, trees
from ada_memory.errors import AdaError, BadInput, BadModel

PREFIX = "base_model.model."
"""What PEFT writes before the name of every module."""

UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model folder in memory: `config` as mlx-lm read it, `parameters` before any packing."""

    model: Any
    config: dict[str, Any]
    tokenizer: Any
    parameters: int


def load_model(folder: Path, hardware: Hardware) -> Loaded:
    """Read a Hugging Face folder.

    Raises:
        BadModel: the folder is missing, incomplete, damaged, or of an architecture that mlx-lm does not have;
            or it is to be packed as nf4.
    """
    if hardware.dtype == "nf4":
        hint = 'set model.engine = "peft", or name a 4-bit folder of mlx-lm with model.dtype = "auto"'
        raise BadModel("nf4 is bitsandbytes' format, which the mlx engine does not read", hint=hint)
    if not (folder / "config.json").is_file():
        raise BadModel(f"{folder} is not a model folder: no config.json", hint="name a Hugging Face folder")
    choose_device(hardware.device)
    loader: Any = transformers
    loader.utils.logging.disable_progress_bar()
    try:
        plain = json.loads((folder / "config.json").read_text("utf-8"))
        model, config = lm.load_model(folder, model_config=_for_mlx(plain))
        tokenizer = loader.AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except UNREADABLE as error:
        raise BadModel(f"{folder} cannot be read: {error}", hint="fetch or copy the model again") from error
    parameters = int(lm.get_total_parameters(model))  # type: ignore[no-untyped-call]
    model.set_dtype(_dtype(hardware.dtype))
    model.freeze()
    model.eval()
    mx.eval(model.parameters())
    return Loaded(model, config, tokenizer, parameters)


def linears(model: Any) -> dict[str, Any]:
    """Every linear layer by name, adapted or not, the output left out (PEFT's "all-linear")."""
    kinds = (nn.Linear, nn.QuantizedLinear, LoRALinear)
    found = {name: module for name, module in model.named_modules() if isinstance(module, kinds)}
    return {
        name: module
        for name, module in found.items()
        if not name.endswith(("lm_head", ".linear")) and "embed" not in name.rpartition(".")[2]
    }


def adapted(model: Any) -> dict[str, Any]:
    """The layers that carry an adapter."""
    return {name: module for name, module in linears(model).items() if isinstance(module, LoRALinear)}


def new_adapter(model: Any, plan: TrainPlan) -> None:
    """Put a fresh LoRA adapter on the linear layers that the plan names: A is noise, B is zero.

    The noise is distributed as PEFT's (uniform, up to 1 / sqrt(in)) but drawn by another generator.

    Raises:
        BadInput: the model has no linear layer of a name that the plan wants, or fewer layers.
    """
    everything, layers = linears(model), len(model.layers)
    names = {name.rpartition(".")[2] for name in everything}
    strange = sorted(set(plan.targets) - names)
    if strange:
        raise BadInput(f"the model has no linear layer {strange[0]!r}", hint=f"it has {sorted(names)}")
    if not 0 <= plan.last_layers <= layers:
        raise BadInput(f"the model has {layers} layers, not {plan.last_layers}")
    first = layers - plan.last_layers if plan.last_layers else 0
    chosen = {
        name: module
        for name, module in everything.items()
        if (not plan.targets or name.rpartition(".")[2] in plan.targets) and _layer(name) >= first
    }
    _put(model, chosen, plan.rank, plan.alpha / plan.rank)
    random = np.random.default_rng(plan.seed)
    for module in adapted(model).values():
        size = module.lora_a.shape
        most = 1 / math.sqrt(size[0])
        module.lora_a = mx.array(random.uniform(-most, most, size).astype(np.float32))
    mx.eval(model.parameters())


def load_adapter(model: Any, folder: Path) -> dict[str, Any]:
    """Put a PEFT adapter on the model, ready to be trained further; returns its PEFT config.

    Raises:
        BadModel: the folder is missing, damaged, made for another model, or holds more than plain LoRA.
    """
    weights = adapter_weights(folder)
    try:
        config: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text("utf-8"))
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
        tensors = load_file(weights)
    except UNREADABLE as error:
        raise BadModel(f"{folder} cannot be read: {error}", hint="use another generation") from error
    more = [k for k in ("use_dora", "rank_pattern", "alpha_pattern", "modules_to_save") if config.get(k)]
    if more:
        raise BadModel(f"{folder} uses {more[0]}, which this engine cannot read", hint='use engine = "peft"')
    pairs = _pairs(tensors)
    everything = linears(model)
    strange = sorted(name for name in pairs if set(pairs[name]) != {"A", "B"} or name not in everything)
    if strange or not pairs:
        raise BadModel(f"{folder} was made for another model", hint="use the base it was trained on")
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    _put(model, {name: everything[name] for name in pairs}, rank, scale)
    for name, module in adapted(model).items():
        a, b = pairs[name]["A"].T, pairs[name]["B"].T
        if (a.shape, b.shape) != (tuple(module.lora_a.shape), tuple(module.lora_b.shape)):
            raise BadModel(f"{folder} does not fit {name}", hint="use the base it was trained on")
        module.lora_a, module.lora_b = mx.array(a), mx.array(b)
    mx.eval(model.parameters())
    return config


def adapter_tensors(model: Any) -> dict[str, NDArray[np.float32]]:
    """The adapter's tensors by the names and in the shapes that they have in a PEFT folder."""
    tensors = {}
    for name, module in adapted(model).items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = np.ascontiguousarray(np.array(module.lora_a).T)
        tensors[f"{PREFIX}{name}.lora_B.weight"] = np.ascontiguousarray(np.array(module.lora_b).T)
    return tensors


def adapter_config(model: Any, plan: TrainPlan) -> dict[str, Any]:
    """What PEFT must know of the adapter that `plan` began."""
    layers = len(model.layers)
    chosen = list(range(layers - plan.last_layers, layers)) if plan.last_layers else None
    return {
        "base_model_name_or_path": "",
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "layers_to_transform": chosen,
        "lora_alpha": plan.alpha,
        "lora_dropout": plan.dropout,
        "peft_type": "LORA",
        "r": plan.rank,
        "target_modules": sorted({name.rpartition(".")[2] for name in adapted(model)}),
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": False,
    }


def save_adapter(model: Any, config: Mapping[str, Any], out: Path) -> None:
    """Write the adapter as a PEFT folder: the same weights give the same bytes.

    Raises:
        AdaError: a weight is not finite; nothing is written.
    """
    tensors = adapter_tensors(model)
    if not all(bool(np.isfinite(tensor).all()) for tensor in tensors.values()):
        raise AdaError("the adapter holds NaN or infinity", hint="lower forge.learning_rate")

    def write(folder: Path) -> None:
        save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
        said = json.dumps(dict(config), indent=2, sort_keys=True) + "\n"
        (folder / "adapter_config.json").write_text(said, "utf-8")

    publish(out, write)


def set_dropout(model: Any, share: float) -> None:
    """Drop this share of what enters each LoRA while training."""
    for module in adapted(model).values():
        module.dropout = nn.Dropout(share)


def set_strength(model: Any, factor: float) -> Callable[[], None]:
    """Scale the adapter, 0 switches it off; call what is returned to have it as it was."""
    before = {name: module.scale for name, module in adapted(model).items()}
    for module in adapted(model).values():
        module.scale *= factor

    def back() -> None:
        for name, module in adapted(model).items():
            module.scale = before[name]

    return back


def _put(model: Any, chosen: Mapping[str, Any], rank: int, scale: float) -> None:
    fresh = [(name, LoRALinear.from_base(module, r=rank, scale=scale)) for name, module in chosen.items()]
    model.update_modules(trees.tree_unflatten(fresh))
    model.freeze()
    for module in adapted(model).values():
        module.unfreeze(keys=["lora_a", "lora_b"], recurse=False)


def _pairs(tensors: Mapping[str, NDArray[Any]]) -> dict[str, dict[str, NDArray[np.float32]]]:
    """A and B of each module: {"model.layers.0.mlp.up_proj": {"A": (r, in), "B": (out, r)}}."""
    pairs: dict[str, dict[str, NDArray[np.float32]]] = {}
    for key, tensor in tensors.items():
        name, _, side = key.removeprefix(PREFIX).removesuffix(".weight").rpartition(".lora_")
        pairs.setdefault(name, {})[side] = tensor.astype(np.float32)
    return pairs


def _layer(name: str) -> int:
    """Which transformer layer a module belongs to; -1 outside of them."""
    parts = name.split(".")
    at = parts.index("layers") if "layers" in parts else len(parts)
    return int(parts[at + 1]) if at + 1 < len(parts) else -1


def _dtype(name: str) -> Any:
    # MLX has no fast product in bfloat16 on the CPU
    exact = name == "float32" or (name == "auto" and on_cpu())
    return mx.float32 if exact else mx.bfloat16


def _for_mlx(config: Mapping[str, Any]) -> dict[str, Any]:
    """What transformers 5 writes elsewhere than mlx-lm looks for it: without it, rotary settings are lost.

    Raises:
        ValueError: layers of two kinds in an order that mlx-lm cannot express.
    """
    found: dict[str, Any] = {}
    rope = config.get("rope_parameters") or {}
    by_kind = rope.get("full_attention") if isinstance(rope.get("full_attention"), dict) else None
    if by_kind is not None:
        found["rope_local_base_freq"] = rope.get("sliding_attention", by_kind)["rope_theta"]
    rope = by_kind or rope
    if "rope_theta" in rope and "rope_theta" not in config:
        found["rope_theta"] = rope["rope_theta"]
        if rope.get("rope_type", "default") != "default":
            found["rope_scaling"] = {k: v for k, v in rope.items() if k != "rope_theta"}
    kinds = config.get("layer_types")
    if str(config["model_type"]).startswith("gemma3") and kinds and "sliding_window_pattern" not in config:
        every = kinds.index("full_attention") + 1 if "full_attention" in kinds else len(kinds) + 1
        if any((kind == "full_attention") != ((i + 1) % every == 0) for i, kind in enumerate(kinds)):
            raise ValueError(f"its layer_types do not repeat every {every} layers")
        found["sliding_window_pattern"] = every
    return found
