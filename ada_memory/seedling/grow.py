"""The recipe that grew the seedling: `python -m ada_memory.seedling.grow --out FOLDER`.

A byte-level BPE is trained on the lessons, then a small Llama on an endless stream of them; every
lesson is seen once. With `--start` an earlier seedling grows on instead, with its own tokenizer.
Runs on a CPU (about 4,500 tokens a second on two cores) or a CUDA GPU.
Progress goes to standard error, one JSON object with the final figures to standard output.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing as mp
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ada_memory.records import Chat
from ada_memory.seedling.lessons import lessons

SPECIAL = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|> ' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
PROMPT_WEIGHT = 0.1  # a little loss on prompts teaches the language that people speak to Ada


@dataclass(frozen=True)
class Recipe:
    """Every number that decides the seedling. Tokens count without padding."""

    tokens: int = 12_000_000
    batch_tokens: int = 8_192
    learning_rate: float = 1.5e-3
    warmup_steps: int = 100
    weight_decay: float = 0.05
    vocabulary: int = 2_048
    hidden: int = 256
    layers: int = 7
    heads: int = 8
    mlp: int = 640
    seed: int = 1


Chunk = tuple[NDArray[np.uint16], NDArray[np.bool_], NDArray[np.int32]]


def grow_tokenizer(recipe: Recipe, samples: int = 60_000) -> PreTrainedTokenizerFast:
    """Byte-level BPE with single digits, trained on the text of the lessons."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    stream = lessons(Random(recipe.seed))
    texts = ("".join(f" {m.content}" for m in next(stream)) for _ in range(samples))
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=recipe.vocabulary,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=[AddedToken(t, special=True) for t in SPECIAL],
            show_progress=False,
        ),
    )
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=bpe,
        pad_token=SPECIAL[0],
        eos_token=SPECIAL[1],
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def render(chat: Chat) -> list[tuple[str, bool]]:
    """The pieces of a chat as the template joins them, each with whether it carries full loss."""
    pieces: list[tuple[str, bool]] = []
    for message in chat:
        pieces += [
            (f"<|{message.role}|>", False),
            (f" {message.content}<|end|>", message.role == "assistant"),
        ]
    return pieces


def chunks(tokenizer_json: str, seed: int, size: int) -> Iterator[Chunk]:
    """Lessons as (token ids, loss mask, lengths), `size` lessons at a time, without end."""
    bpe = Tokenizer.from_str(tokenizer_json)
    stream = lessons(Random(seed))
    while True:
        rendered = [render(next(stream)) for _ in range(size)]
        encoded = iter(
            bpe.encode_batch_fast(
                [text for pieces in rendered for text, _ in pieces], add_special_tokens=False
            )
        )
        ids: list[int] = []
        mask: list[bool] = []
        lengths: list[int] = []
        for pieces in rendered:
            before = len(ids)
            for _, counts in pieces:
                piece = next(encoded).ids
                ids += piece
                mask += [counts] * len(piece)
            lengths.append(len(ids) - before)
        yield np.array(ids, np.uint16), np.array(mask, np.bool_), np.array(lengths, np.int32)


def _work(tokenizer_json: str, seed: int, size: int, queue: mp.Queue[Chunk]) -> None:
    for chunk in chunks(tokenizer_json, seed, size):
        queue.put(chunk)


def batches(
    source: Iterator[Chunk], budget: int, rng: Random, pool: int = 8
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Right-padded (tokens, loss weights), lessons of like length together; `pool` chunks are mixed."""
    while True:
        rows: list[tuple[NDArray[np.uint16], NDArray[np.bool_]]] = []
        for _ in range(pool):
            ids, mask, lengths = next(source)
            ends = np.cumsum(lengths)
            rows += zip(np.split(ids, ends[:-1]), np.split(mask, ends[:-1]), strict=True)
        rows.sort(key=lambda row: len(row[0]))
        groups: list[list[tuple[NDArray[np.uint16], NDArray[np.bool_]]]] = [[]]
        for row in rows:
            if len(row[0]) * (len(groups[-1]) + 1) > budget:
                groups.append([])
            groups[-1].append(row)
        rng.shuffle(groups)
        for group in groups:
            width = -(-max(len(ids) for ids, _ in group) // 8) * 8
            tokens = np.zeros((len(group), width), np.int64)
            weights = np.zeros((len(group), width), np.float32)
            for i, (ids, mask) in enumerate(group):
                tokens[i, : len(ids)] = ids
                weights[i, : len(ids)] = np.where(mask, 1.0, PROMPT_WEIGHT)
            yield torch.from_numpy(tokens), torch.from_numpy(weights)


def new_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """The seedling before its first lesson."""
    torch.manual_seed(recipe.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.hidden,
            intermediate_size=recipe.mlp,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            num_key_value_heads=recipe.heads,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            pad_token_id=0,
            bos_token_id=None,
            eos_token_id=1,
        )
    )


def grown(folder: Path) -> LlamaForCausalLM:
    """An earlier seedling, in float32."""
    model: LlamaForCausalLM = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model


def learning_rate(recipe: Recipe, step: int, done: float) -> float:
    """Linear warm-up, then a cosine to zero over the share `done` of all tokens."""
    return (
        recipe.learning_rate
        * min(1.0, (step + 1) / recipe.warmup_steps)
        * 0.5
        * (1 + math.cos(math.pi * min(1.0, done)))
    )


def train(
    recipe: Recipe,
    model: LlamaForCausalLM,
    data: Iterator[tuple[torch.Tensor, torch.Tensor]],
    out: Path,
    tokenizer: PreTrainedTokenizerFast,
    minutes: float,
) -> dict[str, float]:
    """Train until the tokens, or the minutes, are used up; save a checkpoint every few minutes."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device).train()  # type: ignore[arg-type]
    decay = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": decay, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), fused=True)
    started, saved, seen, step, shown = time.time(), time.time(), 0, 0, torch.zeros((), device=device)
    while True:
        done = max(seen / recipe.tokens, (time.time() - started) / (60 * minutes))
        if done >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step, done)
        tokens, weights = next(data)
        seen += int((weights > 0).sum())
        tokens, weights = tokens.to(device), weights.to(device)
        with torch.autocast(device, torch.bfloat16):
            logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1), tokens[:, 1:].flatten(), reduction="none"
        )
        weight = weights[:, 1:].flatten()
        loss = (loss * weight).sum() / weight.sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        shown = loss.detach() if step == 0 else shown * 0.98 + loss.detach() * 0.02
        step += 1
        if step % 200 == 0:
            speed = seen / (time.time() - started)
            print(
                f"{done:.0%} step {step}, {seen / 1e6:.1f}M tokens, loss {shown.item():.4f},"
                f" {speed:.0f} tokens/s",
                file=sys.stderr,
                flush=True,
            )
        if time.time() - saved > 300:
            save(model, tokenizer, out)
            saved = time.time()
    return {"steps": step, "tokens": seen, "loss": shown.item(), "seconds": time.time() - started}


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write a Hugging Face folder with bf16 weights."""
    twin = LlamaForCausalLM(model.config)
    twin.load_state_dict(model.state_dict())
    twin.to(torch.bfloat16).save_pretrained(out)  # type: ignore[arg-type]
    tokenizer.save_pretrained(out)


def main() -> None:
    """Grow a seedling and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--minutes", type=float, default=60.0, help="stop earlier than --tokens after this long"
    )
    parser.add_argument("--start", type=Path, help="grow on from this seedling, with its tokenizer and size")
    parser.add_argument("--workers", type=int, default=1, help="processes that write lessons")
    for name, value in asdict(Recipe()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    given = vars(parser.parse_args())
    recipe = Recipe(**{name: given[name] for name in asdict(Recipe())})

    start = given["start"]
    tokenizer = PreTrainedTokenizerFast.from_pretrained(start) if start else grow_tokenizer(recipe)
    text = tokenizer.backend_tokenizer.to_str()
    spawn = mp.get_context("spawn")  # a fork would inherit torch's threads half alive
    queue: mp.Queue[Chunk] = spawn.Queue(maxsize=64)
    workers = [
        spawn.Process(target=_work, args=(text, recipe.seed * 1000 + i + 1, 1_000, queue), daemon=True)
        for i in range(given["workers"])
    ]
    for worker in workers:
        worker.start()
    model = grown(start) if start else new_model(recipe, tokenizer)
    if not torch.cuda.is_available():  # torch's fused attention is a third slower there on rows this short
        model.set_attn_implementation("eager")
    size = sum(p.numel() for p in model.parameters())
    print(f"{size / 1e6:.2f}M parameters, vocabulary {len(tokenizer)}", file=sys.stderr, flush=True)
    torch.backends.cuda.matmul.allow_tf32 = True
    data = batches(iter(queue.get, None), recipe.batch_tokens, Random(recipe.seed))
    figures = train(recipe, model, data, given["out"], tokenizer, given["minutes"])
    save(model, tokenizer, given["out"])
    for worker in workers:
        worker.terminate()
    print(json.dumps({"recipe": asdict(recipe), "parameters": size, **figures}))


if __name__ == "__main__":
    main()
