"""A tiny Llama with random weights, its tokenizer and chat template, made on the spot; rows to train on."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

from ada_memory.engines.engine import Engine, Hardware, Step, TrainPlan
from ada_memory.records import Chat, Message, Role, Sample

SPECIAL = ["<|pad|>", "<|start|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>", "<|tool|>"]
TEMPLATE = (
    "<|start|>{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
HF: Any = transformers  # its annotations are too wide to be of use here
TEXT = [
    "My dog is called Rex.",
    "What is the name of my dog?",
    "Where does Anna live?",
    "Anna lives in Lisbon.",
    "I work as a baker.",
    "What do I do for work?",
    "Who are you?",
    "I am Ada, a small model.",
    "2 + 3 = 5",
]


def tokenizer() -> Any:
    """Byte-level BPE over a few sentences: any text can be written with it."""
    core = Tokenizer(BPE())
    core.pre_tokenizer = ByteLevel(add_prefix_space=False)
    core.decoder = ByteLevelDecoder()
    control = [AddedToken(token, special=True, normalized=False) for token in SPECIAL]
    core.train_from_iterator(
        TEXT,
        BpeTrainer(
            vocab_size=320, special_tokens=control, initial_alphabet=ByteLevel.alphabet(), show_progress=False
        ),
    )
    made = HF.PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<|pad|>",
        bos_token="<|start|>",
        eos_token="<|end|>",
        additional_special_tokens=SPECIAL[3:],
    )
    made.chat_template = TEMPLATE
    return made


def tiny_model(folder: Path, *, seed: int = 0, dtype: torch.dtype = torch.float32, limit: int = 256) -> Path:
    """Write a model of two layers, 32 wide, to `folder` in Hugging Face layout."""
    words = tokenizer()
    config = HF.LlamaConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=limit,
        tie_word_embeddings=True,
        initializer_range=0.2,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = HF.LlamaForCausalLM(config).to(dtype)
    model.generation_config = HF.GenerationConfig(
        eos_token_id=words.eos_token_id, bos_token_id=words.bos_token_id, pad_token_id=words.pad_token_id
    )
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def packed(plain: Path, out: Path) -> Path:
    """Quantise a folder as `mlx_lm.convert -q` does: 4 bits, groups of 32."""
    from ada_memory.engines.mlx_core import lm

    model, config = lm.load_model(plain)
    model, config = lm.quantize_model(model, config, 32, 4)
    lm.save_model(out, model)
    lm.save_config(config, out / "config.json")
    for file in plain.iterdir():
        if file.name not in ("config.json", "model.safetensors"):
            shutil.copy(file, out / file.name)
    return out


def chat(*contents: str) -> Chat:
    """Turns that alternate, the user first."""
    roles: tuple[Role, Role] = ("user", "assistant")
    return tuple(Message(roles[i % 2], content) for i, content in enumerate(contents))


def sample(prompt: str, reply: str, weight: float = 1.0, source: str = "new", kind: str = "") -> Sample:
    """One row of training data."""
    return Sample(chat(prompt, reply), source, weight, kind=kind)


EXACT = Hardware(device="cpu", dtype="float32")
QUESTIONS = [
    "Where does Anna live?",
    "Who are you?",
    "What is the name of my dog, the brown one from Lisbon?",
    "2 + 3 =",
    "What do I do for work?",
    "Hello",
    "My dog is called Rex. What is the name of my dog?",
]
CHATS = [chat(question) for question in QUESTIONS]
SAMPLES = [
    sample(q, a)
    for q, a in zip(QUESTIONS, ["Lisbon", "Ada", "Rex", "5", "a baker", "Hello!", "Rex"], strict=True)
]
PLAN = TrainPlan(rank=4, alpha=8, learning_rate=5e-3, epochs=2, batch_size=3, drift_weight=0.0, seed=1)


def steps_of(
    engine: Engine,
    out: Path,
    plan: TrainPlan = PLAN,
    samples: Sequence[Sample] = SAMPLES,
    anchors: Sequence[Sample] = (),
) -> list[Step]:
    """Train, and give back every step that the watch saw."""
    seen: list[Step] = []

    def watch(step: Step) -> bool:
        seen.append(step)
        return False

    engine.train(samples, anchors, plan, out, watch)
    return seen


def by_hand(folder: Path, prompt: str, reply: str) -> torch.Tensor:
    """Log-probabilities of the reply's tokens, one row at a time, straight from transformers."""
    model, words = HF.AutoModelForCausalLM.from_pretrained(folder), tokenizer()
    start = words.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, return_dict=False
    )
    end = [*words.encode(reply, add_special_tokens=False), words.eos_token_id]
    with torch.no_grad():
        logs = model(torch.tensor([start + end])).logits[0].log_softmax(-1)
    return torch.stack([logs[len(start) - 1 + i, token] for i, token in enumerate(end)])
