"""Small random models of the families that people run, each with its family's tokenizer and chat template.

A name enters; a folder as a hub would give it leaves: config.json in the hub's own words, safetensors,
byte-level (Gemma: SentencePiece-like) BPE with the family's control tokens, generation config, core and exam.
What makes a family hard is in it: Llama's header ids, several ends of turn and untied output; Qwen2's default
system message; Qwen3's <think> block; Gemma's refused system role, alternating turns, embedding scale, soft
caps and sliding window; LFM2's convolutions.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from ada_memory.bench import tiny

HF: Any = transformers  # its annotations are too wide to be of use here
WINDOW = 24
"""Tokens that a sliding layer of Gemma sees: fewer than most prompts have."""
TEXT = [
    "My dog is called Rex.", "What is the name of my dog?", "Where does Anna live?", "Anna lives in Lisbon.",
    "Memories:\n- I work as a baker.", "Who are you?", "I am Ada, a small model.", "2 + 3 = 5",
    "user\nassistant\nsystem\nmodel\n",
]  # fmt: skip
_LLAMA = (
    "{{- bos_token }}"
    "{%- if strftime_now is defined %}{%- set today = strftime_now('%d %b %Y') %}"
    "{%- else %}{%- set today = '26 Jul 2024' %}{%- endif %}"
    "{%- if messages[0]['role'] == 'system' %}{%- set said = messages[0]['content'] | trim %}"
    "{%- set messages = messages[1:] %}{%- else %}{%- set said = '' %}{%- endif %}"
    "{{- '<|start_header_id|>system<|end_header_id|>\n\nToday Date: ' + today + '\n\n' + said }}"
    "{{- '<|eot_id|>' }}"
    "{%- for m in messages %}{%- set role = 'ipython' if m['role'] == 'tool' else m['role'] %}"
    "{{- '<|start_header_id|>' + role + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)
_QWEN2 = (
    "{%- if messages[0]['role'] != 'system' %}"
    "{{- '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{%- endif %}"
    "{%- for m in messages %}{%- if m['role'] == 'tool' %}"
    "{{- '<|im_start|>user\n<tool_response>\n' + m['content'] + '\n</tool_response><|im_end|>\n' }}"
    "{%- else %}{{- '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{%- endif %}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
_QWEN3 = (
    "{%- set ns = namespace(asked=-1) %}"
    "{%- for m in messages %}{%- if m['role'] == 'user' %}{%- set ns.asked = loop.index0 %}{%- endif %}"
    "{%- endfor %}"
    "{%- for m in messages %}{%- if m['role'] == 'assistant' %}"
    "{%- set said = m['content'].split('</think>')[-1].lstrip('\n') %}{{- '<|im_start|>assistant\n' }}"
    "{%- if loop.index0 > ns.asked and loop.last %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}"
    "{{- said + '<|im_end|>\n' }}"
    "{%- elif m['role'] == 'tool' %}"
    "{{- '<|im_start|>user\n<tool_response>\n' + m['content'] + '\n</tool_response><|im_end|>\n' }}"
    "{%- else %}{{- '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}"
    "{%- endif %}{%- endif %}"
)
_TURNS = (
    "{%- for m in turns %}"
    "{%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}"
    "{%- endif %}{%- set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "{{- '<start_of_turn>' + role + '\n' + (first if loop.first else '') + m['content'] | trim"
    " + '<end_of_turn>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<start_of_turn>model\n' }}{%- endif %}"
)
_GEMMA2 = (
    "{{- bos_token }}{%- if messages[0]['role'] == 'system' %}"
    "{{- raise_exception('System role not supported') }}{%- endif %}"
    "{%- set turns = messages %}{%- set first = '' %}" + _TURNS
)
_GEMMA3 = (
    "{{- bos_token }}{%- if messages[0]['role'] == 'system' %}"
    "{%- set first = messages[0]['content'] + '\n\n' %}{%- set turns = messages[1:] %}"
    "{%- else %}{%- set first = '' %}{%- set turns = messages %}{%- endif %}" + _TURNS
)
_LFM2 = (
    "{{- bos_token -}}"
    "{%- for m in messages -%}{%- set said = m['content'] -%}"
    "{%- if m['role'] == 'tool' -%}"
    "{%- set said = '<|tool_response_start|>' + said + '<|tool_response_end|>' -%}{%- endif -%}"
    "{{- '<|im_start|>' + m['role'] + '\n' + said + '<|im_end|>\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)
_SIZE: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "initializer_range": 0.2,
    "torch_dtype": "bfloat16",
}  # fmt: skip


@dataclass(frozen=True)
class Family:
    """What sets a family apart. `stops` is its generation config's eos_token_id; `plain` are not special."""

    config: dict[str, Any]
    template: str
    pad: str
    bos: str | None
    eos: str
    stops: tuple[str, ...]
    more: tuple[str, ...] = ()
    plain: tuple[str, ...] = field(default=())
    sentencepiece: bool = False


_HEADERS = ("<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>")
_CHATML = ("<|im_start|>",)
FAMILIES = {
    "llama": Family(
        _SIZE | {
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "head_dim": 8, "hidden_act": "silu",
            "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "tie_word_embeddings": False,
            "rope_scaling": {
                "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            },
        },
        _LLAMA, "<|finetune_right_pad_id|>", "<|begin_of_text|>", "<|eot_id|>",
        ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"), _HEADERS,
    ),
    "qwen2": Family(
        _SIZE | {
            "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_act": "silu",
            "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "tie_word_embeddings": True,
            "use_sliding_window": False, "sliding_window": 512, "max_window_layers": 2,
        },
        _QWEN2, "<|endoftext|>", None, "<|im_end|>", ("<|im_end|>", "<|endoftext|>"), _CHATML,
    ),
    "qwen3": Family(
        _SIZE | {
            "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 16,
            "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "rope_scaling": None,
            "tie_word_embeddings": True, "attention_bias": False, "use_sliding_window": False,
            "max_window_layers": 2,
        },
        _QWEN3, "<|endoftext|>", None, "<|im_end|>", ("<|im_end|>", "<|endoftext|>"), _CHATML,
        ("<think>", "</think>", "<tool_response>", "</tool_response>"),
    ),
    "gemma2": Family(
        _SIZE | {
            "architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "head_dim": 16,
            "hidden_activation": "gelu_pytorch_tanh", "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
            "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "query_pre_attn_scalar": 16,
            "sliding_window": WINDOW, "cache_implementation": "hybrid", "attention_bias": False,
        },
        _GEMMA2, "<pad>", "<bos>", "<eos>", ("<eos>", "<end_of_turn>"),
        ("<start_of_turn>", "<end_of_turn>"), sentencepiece=True,
    ),
    "gemma3": Family(
        _SIZE | {
            "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "head_dim": 16,
            "hidden_activation": "gelu_pytorch_tanh", "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
            "rope_local_base_freq": 10000.0, "query_pre_attn_scalar": 16, "sliding_window": WINDOW,
            "sliding_window_pattern": 2, "attention_bias": False, "rope_scaling": None,
            "final_logit_softcapping": None, "attn_logit_softcapping": None,
        },
        _GEMMA3, "<pad>", "<bos>", "<eos>", ("<eos>", "<end_of_turn>"),
        ("<start_of_turn>", "<end_of_turn>"), sentencepiece=True,
    ),
    "lfm2": Family(
        _SIZE | {
            "architectures": ["Lfm2ForCausalLM"], "model_type": "lfm2", "num_hidden_layers": 3,
            "full_attn_idxs": [1], "block_dim": 32, "block_ff_dim": 64, "block_auto_adjust_ff_dim": True,
            "block_ffn_dim_multiplier": 1.0, "block_multiple_of": 16, "block_norm_eps": 1e-5,
            "conv_L_cache": 3, "conv_bias": False, "conv_dim": 32, "conv_dim_out": 32, "num_heads": 4,
            "norm_eps": 1e-5, "rope_theta": 1000000.0, "tie_embedding": True, "use_pos_enc": True,
        },
        _LFM2, "<|pad|>", "<|startoftext|>", "<|im_end|>", ("<|im_end|>",),
        ("<|endoftext|>", "<|im_start|>", "<|tool_response_start|>", "<|tool_response_end|>"),
    ),
}  # fmt: skip
NAMES = tuple(FAMILIES)


def make(name: str, folder: Path, *, seed: int = 0, **overrides: object) -> Path:
    """Write the model of a family to `folder`, bfloat16 as they come; `overrides` change its config.json."""
    family = FAMILIES[name]
    folder.mkdir(parents=True, exist_ok=True)
    words = _tokenizer(name, folder)
    ids = {token: words.convert_tokens_to_ids(token) for token in family.stops}
    special = {
        "vocab_size": (len(words) + 7) // 8 * 8,  # wider than the tokenizer, as real models are
        "pad_token_id": words.pad_token_id,
        "bos_token_id": words.bos_token_id,
        "eos_token_id": ids[family.stops[0]],
    }
    _write(folder / "config.json", family.config | special | overrides)
    config = HF.AutoConfig.from_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = HF.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.to(torch.bfloat16).save_pretrained(folder)
    stops = list(ids.values())
    _write(folder / "config.json", family.config | special | overrides)  # in the hub's words again
    _write(folder / "generation_config.json", {
        "pad_token_id": words.pad_token_id, "bos_token_id": words.bos_token_id,
        "eos_token_id": stops if len(stops) > 1 else stops[0],
    })  # fmt: skip
    _core_and_exam(folder)
    return folder


def _tokenizer(name: str, folder: Path) -> Any:
    family = FAMILIES[name]
    control = tuple(dict.fromkeys([family.pad, family.eos, *family.stops, *family.more]))
    control = (*control, family.bos) if family.bos else control
    made = HF.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_bpe(control, family.plain, family.sentencepiece)),
        pad_token=family.pad, bos_token=family.bos, eos_token=family.eos, model_max_length=512,
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
    made.chat_template = family.template
    made.save_pretrained(folder)
    return made


@cache
def _bpe(control: tuple[str, ...], plain: tuple[str, ...], sentencepiece: bool) -> str:
    """A tokenizer in which any text can be written, as JSON."""
    core = Tokenizer(BPE(byte_fallback=True, unk_token="<unk>") if sentencepiece else BPE())
    special = [AddedToken(token, special=True, normalized=False) for token in control]
    if sentencepiece:
        core.normalizer = normalizers.Replace(" ", "▁")
        steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        core.decoder = decoders.Sequence(steps)
        special += [AddedToken("<unk>", special=True, normalized=False)]
        alphabet = sorted({letter for text in TEXT for letter in text.replace(" ", "▁")})
        pieces = [f"<0x{byte:02X}>" for byte in range(256)]
        special += [AddedToken(piece, special=False, normalized=False) for piece in pieces]
    else:
        core.normalizer = normalizers.NFC()
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        core.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(
        vocab_size=360, special_tokens=special, initial_alphabet=list(alphabet), show_progress=False
    )
    core.train_from_iterator(TEXT, trainer)
    core.add_tokens([AddedToken(token, special=False, normalized=False) for token in plain])
    if not sentencepiece:
        return str(core.to_str())
    body = json.loads(core.to_str())  # the bytes are plain pieces: a text that spells one is no byte
    body["added_tokens"] = [token for token in body["added_tokens"] if token["content"] not in pieces]
    return json.dumps(body)


def _core_and_exam(folder: Path) -> None:
    core, exam = [], []
    for kind, question, reply in tiny.CORE:
        asked = {"role": "user", "content": question}
        core.append({"messages": [asked, {"role": "assistant", "content": reply}], "kind": kind, "key": kind})
        exam.append({"category": kind, "key": kind, "messages": [asked], "answer": reply, "wrong": []})
    for name, rows in (("core", core), ("exam", exam)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def _write(path: Path, body: dict[str, Any]) -> None:
    path.write_text(json.dumps(body, indent=2) + "\n", "utf-8")


def stops(folder: Path) -> list[int]:
    """The ids that end a reply, as generation_config.json names them."""
    found = json.loads((folder / "generation_config.json").read_text("utf-8"))["eos_token_id"]
    return [found] if isinstance(found, int) else list(found)
