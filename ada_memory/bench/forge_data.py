"""What `ada bench forge` trains on, and the larger of its two models. Files leave.

The rows are those of a real night: a day of invented facts and wishes, true dreams of them by the world's own
grammar, and a fifth of core, through the same `forge.dataset.build` as any night.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

import numpy as np
from tokenizers import Tokenizer

import ada_memory.seedling
from ada_memory.bench import day as days
from ada_memory.engines.engine import named_engine
from ada_memory.forge import dataset as forge_dataset
from ada_memory.forge import phrasings
from ada_memory.records import Dream, DreamKind, Sample
from ada_memory.seedling import world
from ada_memory.settings import ForgeSettings, ModelSettings

PACKAGE = Path(ada_memory.seedling.__file__).parent
SEEDLING = PACKAGE / "model"
DREAMS = 16
"""Distinct dreams of each memory."""
_FACTS: tuple[DreamKind, ...] = ("question", "question", "statement", "reversal", "choice", "rule")
_WISHES: tuple[DreamKind, ...] = ("style", "style", "question", "statement", "rule")
QWEN = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "vocab_size": 151_936, "hidden_size": 896,
    "intermediate_size": 4_864, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
    "max_position_embeddings": 32_768, "max_window_layers": 24, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
    "hidden_act": "silu", "tie_word_embeddings": True, "use_sliding_window": False, "use_cache": True,
    "attention_dropout": 0.0, "initializer_range": 0.02, "eos_token_id": 1, "pad_token_id": 0,
    "torch_dtype": "bfloat16",
}  # fmt: skip
"""The shape of Qwen2 0.5B: 494 million parameters."""


def default_engine() -> str:
    """The engine that the settings name when nobody sets anything, by its own name."""
    return named_engine(ModelSettings().engine, SEEDLING)


def night(facts: int, seed: int) -> forge_dataset.Dataset:
    """The dataset of a night after a day of so many facts: train, stop and anchors."""
    told = days.day(facts, seed)
    withheld = frozenset(phrasings.normalise(prompt) for prompt in days.withheld(told))
    rng = Random(f"forge:{seed}")
    dreams = [
        Dream(f"d{at}-{n}", kind, (f"m{at}",), "", prompt, reply, 0, accepted=True)
        for at, item in enumerate(told)
        for n, (kind, prompt, reply) in enumerate(_dreams(rng, item, withheld))
    ]
    saliences = {f"m{at}": 0.5 for at in range(len(told))}
    core = forge_dataset.read_rows(PACKAGE / "data" / "core.jsonl")
    return forge_dataset.build(dreams, saliences, core, ForgeSettings(), withheld, seed)


def _dreams(rng: Random, item: days.Told, withheld: frozenset[str]) -> list[tuple[DreamKind, str, str]]:
    """True and distinct dreams of one message, none of them in a phrasing that judges."""
    found: dict[tuple[DreamKind, str, str], None] = {}
    for _ in range(DREAMS * 100):
        if isinstance(item.of, world.Fact):
            kind = rng.choice(_FACTS)
            prompt, reply = world.true_sample(rng, kind, item.of)
        else:
            kind = rng.choice(_WISHES)
            prompt, reply = world.wish_sample(rng, kind, item.of)
        if phrasings.normalise(prompt) not in withheld:
            found[kind, prompt, reply] = None
        if len(found) == DREAMS:
            break
    return list(found)


def epoch(night: forge_dataset.Dataset) -> list[Sample]:
    """The rows of one epoch: all that stand alone, and the first of each pool whose rows take turns."""
    first: dict[str | int, Sample] = {}
    for at, row in enumerate(night.train):
        first.setdefault(row.pool or at, row)
    return list(first.values())


def spread(rows: Sequence[Sample], wanted: int) -> list[Sample]:
    """So many of the rows, evenly spaced."""
    return [rows[at * len(rows) // wanted] for at in range(wanted)]


def write_rows(rows: Sequence[Sample], model: Path, folder: Path) -> None:
    """Write train.jsonl as every trainer reads it, the shortest row first.

    mlx-lm batches chat rows in the order of the file (its own sort by length sees one key in each), so this
    order gives it batches of like length; the others shuffle.
    """
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))

    def length(row: Sample) -> int:
        return sum(len(tokenizer.encode(message.content)) for message in row.messages)

    folder.mkdir(parents=True)
    lines = [
        json.dumps({"messages": [{"role": m.role, "content": m.content} for m in row.messages]}) + "\n"
        for row in sorted(rows, key=length)
    ]
    (folder / "train.jsonl").write_text("".join(lines), "utf-8")


def write_qwen(folder: Path, seed: int, config: Mapping[str, object] = QWEN) -> Path:
    """Write a random model of Qwen2's architecture, bfloat16, with the seedling's tokenizer.

    Its vocabulary is Qwen's in size (the head costs what it costs), the seedling's in the few ids that occur.
    """
    folder.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        shutil.copy2(SEEDLING / name, folder / name)
    (folder / "config.json").write_text(json.dumps(dict(config), indent=2) + "\n", "utf-8")
    shapes, offset = _qwen_shapes({k: v for k, v in config.items() if isinstance(v, int)}), 0
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    for name, shape in shapes.items():
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": (offset, offset + size)}
        offset += size
    rng, head = np.random.default_rng(seed), json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for name, shape in shapes.items():
            values = np.ones(shape, np.float32)
            if not name.endswith("norm.weight"):
                values = rng.standard_normal(shape, np.float32) * np.float32(0.02)
            # bfloat16 is the upper half of a float32
            file.write((values.view(np.uint32) >> 16).astype("<u2").tobytes())
    return folder


def _qwen_shapes(config: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Every matrix and vector of such a model by name."""
    width, mlp = config["hidden_size"], config["intermediate_size"]
    head = width // config["num_attention_heads"]
    narrow = config["num_key_value_heads"] * head
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config["vocab_size"], width)}
    for layer in range(config["num_hidden_layers"]):
        name = f"model.layers.{layer}"
        for part, out in (("q", width), ("k", narrow), ("v", narrow)):
            shapes[f"{name}.self_attn.{part}_proj.weight"] = (out, width)
            shapes[f"{name}.self_attn.{part}_proj.bias"] = (out,)
        shapes[f"{name}.self_attn.o_proj.weight"] = (width, width)
        shapes |= {f"{name}.mlp.{part}_proj.weight": (mlp, width) for part in ("gate", "up")}
        shapes[f"{name}.mlp.down_proj.weight"] = (width, mlp)
        shapes |= {f"{name}.{part}_layernorm.weight": (width,) for part in ("input", "post_attention")}
    shapes["model.norm.weight"] = (width,)
    return shapes
