"""Model and adapter folders: read into torch, written from it.

In: local Hugging Face and PEFT folders, safetensors only (a pickle could run code). Out: a torch model, a
tokenizer; folders that appear whole or not at all. Never asks a hub, never runs code from a folder.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # huggingface_hub reads it when it is imported

import peft
import torch
import transformers
from safetensors import SafetensorError, safe_open

from ada_memory.engines import memory
from ada_memory.engines.engine import Hardware, TrainPlan
from ada_memory.engines.folder import MERGED, adapter_weights, publish, weight_files
from ada_memory.errors import AdaError, BadInput, BadModel

UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError)


def load_model(folder: Path, hardware: Hardware) -> tuple[Any, Any, int]:
    """Read a Hugging Face folder: (model in eval mode, tokenizer, number of parameters).

    With "nf4" the linear layers but the output are packed to 4 bits on the way in and the rest is bfloat16;
    a merged folder is read as with "auto".

    Raises:
        BadModel: the folder is missing, incomplete, damaged, or not a causal language model; or it is to be
            packed and bitsandbytes is missing or does not work on the device.
    """
    if not (folder / "config.json").is_file():
        raise BadModel(f"{folder} is not a model folder: no config.json", hint="name a Hugging Face folder")
    loader: Any = transformers  # its own annotations do not know what its options return
    loader.utils.logging.disable_progress_bar()
    device = torch.device(_device(hardware.device))
    local = {"local_files_only": True, "trust_remote_code": False}
    dtype = "auto" if hardware.dtype == "nf4" and _merged(folder) else hardware.dtype
    packing = {"quantization_config": _nf4(device), "device_map": {"": device}} if dtype == "nf4" else {}
    try:
        size = sum(math.prod(shape) for shape in _shapes(folder).values())
        model, info = loader.AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=_dtype(dtype, device, size),
            use_safetensors=True,
            output_loading_info=True,
            **packing,
            **local,
        )
        tokenizer = loader.AutoTokenizer.from_pretrained(folder, **local)
    except UNREADABLE as error:
        raise BadModel(f"{folder} cannot be read: {error}", hint="fetch or copy the model again") from error
    # transformers fills a missing matrix with noise and only warns
    absent = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if absent:
        raise BadModel(f"{folder} lacks the weights of {absent[0]}", hint="fetch or copy the model again")
    if not packing:
        return model.to(device).eval(), tokenizer, size
    for layer in packed_layers(model).values():
        # on CPUs with bfloat16 it would repack for speed, in eval mode, what no gradient then passes through
        layer.support_avx512bf16_for_cpu = False
    return model.eval(), tokenizer, size


def load_adapter(model: Any, folder: Path) -> Any:
    """Put a PEFT adapter on the model, ready to be trained further.

    Raises:
        BadModel: the folder is missing, damaged, or made for another model.
    """
    weights = adapter_weights(folder)
    try:
        with quiet():
            adapted = peft.PeftModel.from_pretrained(model, str(folder), is_trainable=True)
        with safe_open(weights, "pt") as file:
            stored = set(file.keys())
    except UNREADABLE as error:
        raise BadModel(f"{folder} does not fit: {error}", hint="use the base it was trained on") from error
    if stored != set(adapter_state(adapted)):  # peft only warns about keys that find no place
        raise BadModel(f"{folder} was made for another model", hint="use the base it was trained on")
    return adapted.eval()


def new_adapter(model: Any, plan: TrainPlan) -> Any:
    """Put a fresh LoRA adapter on the linear layers that the plan names: A is kaiming noise, B is zero.

    Raises:
        BadInput: the model has no linear layer of a name that the plan wants, or fewer layers.
    """
    names = linear_names(model)
    strange = sorted(set(plan.targets) - names)
    layers = int(model.config.get_text_config().num_hidden_layers)
    if strange:
        raise BadInput(f"the model has no linear layer {strange[0]!r}", hint=f"it has {sorted(names)}")
    if not 0 <= plan.last_layers <= layers:
        raise BadInput(f"the model has {layers} layers, not {plan.last_layers}")
    # the names are spelt out where only some layers are meant: peft's "all-linear" knows no layers
    chosen = list(plan.targets) or (sorted(names) if plan.last_layers else "all-linear")
    config = peft.LoraConfig(
        r=plan.rank,
        lora_alpha=plan.alpha,
        lora_dropout=plan.dropout,
        target_modules=chosen,
        layers_to_transform=list(range(layers - plan.last_layers, layers)) if plan.last_layers else None,
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(plan.seed)
        adapted = peft.get_peft_model(model, config)
    # peft would write the path that the base has on this machine into the adapter
    adapted.peft_config["default"].base_model_name_or_path = ""
    return adapted


def set_dropout(adapted: Any, share: float) -> None:
    """Drop this share of what enters each LoRA while training; an adapter read from a folder may differ."""
    for module in adapted.modules():
        if isinstance(module, peft.tuners.lora.LoraLayer) and "default" in module.lora_dropout:
            module.lora_dropout["default"] = torch.nn.Dropout(share) if share else torch.nn.Identity()


def linear_names(model: Any) -> set[str]:
    """Last parts of the names of the model's linear layers, the output left out ("q_proj")."""
    output = model.get_output_embeddings()
    return {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not output
    }


def packed_layers(model: Any) -> dict[str, Any]:
    """The linear layers that bitsandbytes holds in 4 bits, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and hasattr(module.weight, "quant_state")
    }


def unpacked(model: Any, dtype: torch.dtype) -> Any:
    """The same model with every packed layer as a plain one of `dtype`, its adapter as before.

    peft merges into a packed layer by packing the sum; into a plain one it just adds. The model that goes in
    is used up.
    """
    if not isinstance(model, peft.PeftModel):
        return model.dequantize(dtype)
    config, state = model.peft_config["default"], adapter_state(model)
    with quiet():
        adapted = peft.get_peft_model(model.unload().dequantize(dtype), config)
        peft.set_peft_model_state_dict(adapted, state)
    return adapted.eval()


def adapter_state(adapted: Any) -> dict[str, torch.Tensor]:
    """The adapter's tensors by the names that they have in a PEFT folder."""
    with quiet():
        state: dict[str, torch.Tensor] = peft.get_peft_model_state_dict(adapted, save_embedding_layers=False)
    return state


def save_adapter(adapted: Any, out: Path) -> None:
    """Write the adapter as a PEFT folder: the same weights give the same bytes.

    Raises:
        AdaError: a weight is not finite; nothing is written.
    """
    if not all(bool(torch.isfinite(tensor).all()) for tensor in adapter_state(adapted).values()):
        raise AdaError("the adapter holds NaN or infinity", hint="lower forge.learning_rate")

    def write(folder: Path) -> None:
        with quiet():
            adapted.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)
        file = folder / "adapter_config.json"
        config = json.loads(file.read_text("utf-8"))
        # peft keeps the modules as a set, whose order changes from one process to the next
        config["target_modules"] = sorted(config["target_modules"])
        file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")

    publish(out, write)


def save_model(model: Any, tokenizer: Any, out: Path) -> None:
    """Write a whole merged model: weights, config, generation config, tokenizer and chat template."""
    setattr(model.config, MERGED, True)

    def write(folder: Path) -> None:
        model.save_pretrained(str(folder))
        tokenizer.save_pretrained(str(folder))

    publish(out, write)


@contextmanager
def quiet() -> Iterator[None]:
    """Without peft's warnings: deprecations it draws from transformers, and keys that we check ourselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", UserWarning)
        yield


def _shapes(folder: Path) -> dict[str, list[int]]:
    """Shapes of all weights in the folder, from the headers alone."""
    files = weight_files(folder)
    if not files:
        raise ValueError("it has no .safetensors file")
    shapes: dict[str, list[int]] = {}
    for path in files:
        with safe_open(path, "pt") as file:
            shapes |= {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118
    return shapes


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise BadModel(f"device = {name!r}, but torch sees no GPU here", hint='set model.device = "auto"')
    return name


def _dtype(name: str, device: torch.device, parameters: int) -> torch.dtype:
    """The format of what is not packed."""
    if name == "auto":
        return torch.float32 if device.type == "cpu" and memory.held_wide(parameters) else torch.bfloat16
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "nf4": torch.bfloat16}[name]


def _merged(folder: Path) -> bool:
    """Whether the folder was written by a merge."""
    try:
        return bool(json.loads((folder / "config.json").read_text("utf-8")).get(MERGED))
    except (OSError, ValueError, AttributeError):
        return False  # whoever reads it next says what is wrong with it


def _nf4(device: torch.device) -> Any:
    """How bitsandbytes is to pack a base (QLoRA, 2305.14314): NF4, the scales packed too.

    Raises:
        BadModel: it is not installed, too old, or does not work on this device.
    """
    hint = 'pip install bitsandbytes, or set model.dtype = "auto"'
    if device.type not in ("cpu", "cuda"):
        raise BadModel(f"nf4 works on cpu and cuda, not on {device}", hint="set model.device to one of them")
    try:
        bitsandbytes: Any = importlib.import_module("bitsandbytes")  # no types, and seldom there
    except ImportError as error:
        raise BadModel(f"model.dtype is nf4, which needs bitsandbytes: {error}", hint=hint) from error
    loader: Any = transformers
    if not loader.utils.is_bitsandbytes_available():
        raise BadModel(f"bitsandbytes {bitsandbytes.__version__} is too old for nf4", hint=hint)
    try:
        bitsandbytes.functional.quantize_4bit(torch.ones(64, 64, device=device), quant_type="nf4")
    except (RuntimeError, NotImplementedError, OSError, AttributeError) as error:
        raise BadModel(
            f"bitsandbytes cannot pack weights on {device}: {error}",
            hint='install one that was built for this device, or set model.dtype = "auto"',
        ) from error
    return loader.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
