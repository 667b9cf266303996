"""Base + adapter to one Hugging Face folder, also over a base that mlx-lm quantised.

In: a model in MLX with an adapter, the folder it came from. Out: a folder in float32 or bfloat16. What was
packed into 4 bits is unpacked first and never packed again: a 4-bit step is larger than most of an adapter.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ada_memory.engines.folder import MERGED, publish
from ada_memory.engines.mlx_core import lm, mx, nn
from ada_memory.engines.mlx_load import adapted
from ada_memory.errors import BadModel

BESIDE = ("*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken")
"""What lies beside the weights: tokenizer, chat template, generation config."""


def merge(model: Any, base: Path, out: Path, *, exact: bool) -> None:
    """Write base + adapter, in float32 if `exact`, else bfloat16.

    Raises:
        BadModel: a layer of the model has no weight of its name in the base.
    """
    dtype = mx.float32 if exact else mx.bfloat16

    def write(folder: Path) -> None:
        weights = {name: tensor.astype(dtype) for name, tensor in _merged(model, base)}
        shards = lm.make_shards(weights)
        where: dict[str, str] = {}
        for at, shard in enumerate(shards):
            many = len(shards) > 1
            name = f"model-{at + 1:05d}-of-{len(shards):05d}.safetensors" if many else "model.safetensors"
            mx.save_safetensors(str(folder / name), shard, metadata={"format": "pt"})
            where |= dict.fromkeys(shard, name)
        for pattern in BESIDE:
            for file in base.glob(pattern):
                if file.name not in ("config.json", "model.safetensors.index.json"):
                    shutil.copyfile(file, folder / file.name)
        _write(folder / "config.json", _config(base, exact))
        if len(shards) > 1:
            size = sum(int(tensor.nbytes) for tensor in weights.values())
            index = {"metadata": {"total_size": size}, "weight_map": where}
            _write(folder / "model.safetensors.index.json", index)

    publish(out, write)


def unpacked(folder: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """The weights of a folder that mlx-lm quantised, by name, as a merge without an adapter writes them."""
    model, _ = lm.load_model(folder)
    for name, tensor in _merged(model, folder):
        yield name, np.array(tensor.astype(mx.float32))


def _merged(model: Any, base: Path) -> Iterator[tuple[str, Any]]:
    """Every weight of the folder by its name there, plain, the adapter added."""
    change, packed = adapted(model), _packed(model)
    raw: dict[str, Any] = {}
    for file in sorted(base.glob("model*.safetensors")):
        raw |= mx.load(str(file))
    absent = [name for name in change if f"{name}.weight" not in raw]
    if absent:
        raise BadModel(f"the base has no weight {absent[0]}.weight", hint='merge with model.engine = "peft"')
    for name, tensor in raw.items():
        owner, _, kind = name.rpartition(".")
        if owner in packed and kind in ("scales", "biases"):
            continue
        whole = packed[owner](raw) if owner in packed and kind == "weight" else tensor
        if owner in change and kind == "weight":
            layer = change[owner]
            whole = whole.astype(mx.float32) + layer.scale * (layer.lora_a @ layer.lora_b).T
        if whole.ndim == 3 and name.endswith(".conv.conv.weight") and whole.shape[-1] == 1:
            whole = whole.swapaxes(1, 2)  # mlx-lm keeps LFM2's convolutions the other way round
        yield name, whole


def _packed(model: Any) -> dict[str, Any]:
    """How to unpack each layer that is kept in a few bits."""

    def unpack(name: str, module: Any) -> Any:
        def read(raw: dict[str, Any]) -> Any:
            weight, scales = raw[f"{name}.weight"], raw[f"{name}.scales"]
            biases = raw.get(f"{name}.biases")
            if biases is not None:  # in full precision, as the model runs it
                scales, biases = scales.astype(mx.float32), biases.astype(mx.float32)
            return mx.dequantize(weight, scales, biases, module.group_size, module.bits, module.mode)

        return read

    kinds = (nn.QuantizedLinear, nn.QuantizedEmbedding)
    found = {name: module for name, module in model.named_modules() if isinstance(module, kinds)}
    return {
        plain: unpack(plain, module)
        for name, module in found.items()
        for plain in [name.removesuffix(".linear")]
    }


def _config(base: Path, exact: bool) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((base / "config.json").read_text("utf-8"))
    for gone in ("quantization", "quantization_config", "torch_dtype"):
        config.pop(gone, None)
    return config | {"dtype": "float32" if exact else "bfloat16", MERGED: True}


def _write(path: Path, body: dict[str, Any]) -> None:
    path.write_text(json.dumps(body, indent=2, sort_keys=True) + "\n", "utf-8")
