"""The quick way through a model: the same loss and gradient as row by row, on every architecture it takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from ada_memory.engines import peft_attention
from ada_memory.engines.engine import Hardware, TrainPlan
from ada_memory.engines.peft import PeftEngine
from ada_memory.engines.peft_attention import Layout, attend
from ada_memory.engines.peft_head import drift, likelihood
from ada_memory.engines.peft_load import new_adapter
from ada_memory.engines.peft_rows import pack, reply_logits
from ada_memory.engines.peft_step import Part, Plain, Quick, blurred, parts, way
from ada_memory.engines.text import Row
from tests.models import EXACT, HF, tiny_model

SIZES = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 256,
    "pad_token_id": 0, "initializer_range": 0.3,
}
ROWS = [
    Row([(7 * i + j) % 90 + 3 for j in range(prompt)], [(5 * i + 3 * j) % 90 + 3 for j in range(reply)])
    for i, (prompt, reply) in enumerate([(3, 1), (9, 4), (2, 6), (40, 3), (5, 5), (11, 2)])
]
WEIGHTS = [0.5, 0.0, 2.0, 1.0]
HELD = TrainPlan(drift_weight=3.0)
PLAIN_MODELS = {"Gemma2": {"query_pre_attn_scalar": 8}}
"""What our layers do not do (soft caps on scores and logits): such models keep their own."""
MODELS: dict[str, dict[str, object]] = {
    "Llama": {}, "Qwen2": {}, "Qwen3": {}, "Gemma": {}, "Mistral": {"sliding_window": 6},
    "Gemma3Text": {"sliding_window": 6, "query_pre_attn_scalar": 8}, "Phi": {},
    "Lfm2": {"layer_types": ["conv", "full_attention", "conv"]},
}


def adapted(kind: str, more: dict[str, object]) -> Any:
    """A small model with random weights and an adapter whose every factor is random."""
    name = kind.removesuffix("Text") if kind == "Gemma3Text" else kind
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        config = getattr(HF, f"{kind if kind == 'Gemma3Text' else name}Config".replace("TextC", "TextC"))(
            **(SIZES | more)
        )
        base = getattr(HF, f"{name}ForCausalLM")(config).eval()
        model = new_adapter(base, TrainPlan(rank=3, alpha=6))
        for parameter in model.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.1)
    return model


def gradient(model: Any) -> torch.Tensor:
    """The adapter's gradient as one vector; it is taken away."""
    found = [p for p in model.parameters() if p.requires_grad]
    made = torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in found])
    for p in found:
        p.grad = None
    return made


def row_by_row(model: Any, rows: list[Row], weights: list[float], held: list[Row], pull: float) -> Any:
    """Loss, drift and gradient as the formulas say, a row at a time, by the model's own forward pass."""

    def logs(row: Row) -> torch.Tensor:
        ids = torch.tensor([row.prompt + row.reply])
        made: torch.Tensor = model(input_ids=ids, use_cache=False).logits[0, len(row.prompt) - 1 : -1]
        return made.log_softmax(-1)

    def states(row: Row) -> torch.Tensor:
        ids = torch.tensor([row.prompt + row.reply])
        decoder = model.get_base_model().get_decoder()
        made: torch.Tensor = decoder(input_ids=ids, use_cache=False).last_hidden_state
        return made[0, len(row.prompt) - 1 : -1]

    bearing = sum(len(row.reply) for row, weight in zip(rows, weights, strict=True) if weight)
    loss = torch.zeros(())
    for row, weight in zip(rows, weights, strict=True):
        loss = loss - weight * logs(row).gather(1, torch.tensor(row.reply)[:, None]).sum() / bearing
    apart = torch.zeros(())
    for row in held:
        with torch.no_grad(), model.disable_adapter():
            base = states(row)
        shares = (states(row) - base).square().sum(-1) / base.square().sum(-1)
        apart = apart + pull * shares.sum() / sum(len(r.reply) for r in held)
    (loss + apart).backward()  # type: ignore[no-untyped-call]
    return loss.item(), apart.item(), gradient(model)


@pytest.mark.parametrize("kind", [*MODELS, *PLAIN_MODELS])
def test_the_quick_way_gives_what_the_formulas_give(kind: str) -> None:
    config: dict[str, object] = dict(MODELS.get(kind) or PLAIN_MODELS.get(kind, {}))
    model = adapted(kind, config)
    rows, held = ROWS[:4], ROWS[4:]
    loss, apart, expected = row_by_row(model, rows, WEIGHTS, held, 3.0)
    chosen = way(model, 0, False, ROWS)
    assert isinstance(chosen, Plain if kind in PLAIN_MODELS else Quick)
    assert chosen.padded == (kind in ("Lfm2", *PLAIN_MODELS))
    for tokens in (1_000, 50, 1):
        anchors = list(enumerate(held))
        for _ in range(2):  # the second time the base's view is known
            split = parts(rows, WEIGHTS, anchors, HELD, tokens, padded=chosen.padded)
            made = [chosen.learn(part) for part in split]
            assert sum(float(part[0]) for part in made) == pytest.approx(loss, rel=1e-4)
            assert sum(float(part[1]) for part in made) == pytest.approx(apart, rel=1e-4)
            torch.testing.assert_close(gradient(model), expected, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("kind", ["Llama", "Lfm2"])
def test_anchors_that_were_foreseen_hold_as_others_do(kind: str) -> None:
    model = adapted(kind, MODELS[kind])
    anchors = list(enumerate(ROWS))
    (part,) = parts(ROWS[:4], WEIGHTS, anchors[4:], HELD, 1_000, padded=kind == "Lfm2")
    plain, ahead = Quick(model, 0, torch.float32), Quick(model, 0, torch.float32)
    expected, by_plain = plain.learn(part), gradient(model)
    for tokens in (1_000, 20):
        ahead.foresee(anchors, tokens)
    assert sorted(ahead._teacher) == list(range(len(ROWS)))
    torch.testing.assert_close(ahead.learn(part), expected)
    torch.testing.assert_close(gradient(model), by_plain)


@pytest.mark.parametrize("kind", ["Llama", "Lfm2", "Gemma2"])
def test_noise_blurs_rows_with_a_loss_and_no_anchor(kind: str) -> None:
    config: dict[str, object] = dict(MODELS.get(kind) or PLAIN_MODELS.get(kind, {}))
    model = adapted(kind, config)
    chosen = way(model, 0, False, ROWS)
    noisy, anchors = replace(HELD, noise=0.3), list(enumerate(ROWS[4:]))
    made = {
        plan: chosen.learn(next(parts(ROWS[:4], WEIGHTS, anchors, plan, 1_000, padded=chosen.padded)))
        for plan in (HELD, noisy)
    }
    assert float(made[noisy][0]) != pytest.approx(float(made[HELD][0]), rel=1e-4)
    torch.testing.assert_close(made[noisy][1], made[HELD][1])


def test_noise_is_a_share_of_each_tokens_size() -> None:
    model = adapted("Llama", {})
    embed = model.get_input_embeddings()
    ids = torch.arange(3, 93)[None].repeat(20, 1)
    plain = embed(ids)
    with blurred(model, 0.25, slice(10)):
        moved = embed(ids) - plain
    assert not moved[10:].any()
    share = moved[:10].square().mean((0, 2)).sqrt() / plain[:10].square().mean((0, 2)).sqrt()
    torch.testing.assert_close(share, torch.full_like(share, 0.25), rtol=0.2, atol=0)
    assert torch.equal(embed(ids), plain)


def test_in_bfloat16_the_gradient_points_the_same_way() -> None:
    model = adapted("Llama", {})
    loss, apart, expected = row_by_row(model, ROWS[:4], WEIGHTS, ROWS[4:], 3.0)
    chosen = Quick(model, 0, torch.bfloat16)
    (part,) = parts(ROWS[:4], WEIGHTS, list(enumerate(ROWS[4:])), HELD, 1_000, padded=False)
    made = chosen.learn(part)
    assert [float(value) for value in made] == pytest.approx([loss, apart], rel=0.05)
    assert F.cosine_similarity(gradient(model), expected, dim=0) > 0.99


def test_the_model_is_its_own_again_afterwards() -> None:
    model = adapted("Qwen3", {})
    packed = pack(ROWS, 0, torch.device("cpu"))
    before = reply_logits(model, packed, mixed=False)
    own = set(vars(model.get_base_model().model.layers[0].mlp.up_proj))
    chosen = way(model, 0, False, ROWS)
    chosen.learn(Part(ROWS, [1.0] * len(ROWS), [], 0.0))
    assert set(vars(model.get_base_model().model.layers[0].mlp.up_proj)) == own
    assert torch.equal(reply_logits(model, packed, mixed=False), before)


@pytest.mark.parametrize("kind", ["Llama", "Lfm2"])
def test_the_last_layer_does_without_the_tokens_that_nobody_reads(kind: str) -> None:
    model, seen = adapted(kind, MODELS[kind]), []
    layers = model.get_base_model().model.layers
    for layer in (layers[0], layers[-1]):
        down = layer.mlp.down_proj if kind == "Llama" else layer.feed_forward.w2
        down.register_forward_hook(lambda _, given, out: seen.append(out.shape[0] * out.shape[1]))
    Quick(model, 0, torch.float32).learn(Part(ROWS, [1.0] * len(ROWS), [], 0.0))
    tokens = len(ROWS) * max(map(len, ROWS)) if kind == "Lfm2" else 96
    assert sum(map(len, ROWS)) == 91 and sum(len(row.reply) for row in ROWS) == 21
    assert seen == [tokens, 32]


def test_a_model_that_our_layers_do_not_reproduce_keeps_its_own() -> None:
    model = adapted("Llama", {})
    assert isinstance(way(model, 0, False, ROWS), Quick)
    decoder = model.get_base_model().model
    usual = decoder.forward

    def strange(**inputs: Any) -> Any:
        out = usual(**inputs)
        if "rows" in inputs:
            out.last_hidden_state = out.last_hidden_state.roll(1, 1)
        return out

    decoder.forward = strange
    assert isinstance(way(model, 0, False, ROWS), Plain)


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("eager", [0, 512])
def test_each_row_attends_to_itself_alone(window: int | None, eager: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(peft_attention, "EAGER", eager)
    lengths, heads, few, width = [4, 30, 1, 9, 28], 6, 2, 8
    generator = torch.Generator().manual_seed(1)
    q, k, v = (
        torch.randn(1, count, sum(lengths), width, generator=generator, requires_grad=True)
        for count in (heads, few, few)
    )
    out, _ = attend(None, q, k, v, None, sliding_window=window, rows=Layout(lengths, q.device))
    above = torch.randn(out.shape, generator=generator)
    found = torch.autograd.grad(out, (q, k, v), above)
    alone = []
    for part in zip(*(torch.split(x, lengths, 2) for x in (q, k, v)), strict=True):
        one, two, three = part[0], *(x.repeat_interleave(heads // few, 1) for x in part[1:])
        place = torch.arange(one.shape[2])
        back = place[:, None] - place
        seen = (back >= 0) & (back < (window or 99))
        scores = (one @ two.transpose(2, 3) * width**-0.5).masked_fill(~seen, float("-inf"))
        alone.append((scores.softmax(-1) @ three).transpose(1, 2))
    expected = torch.cat(alone, 1)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    for mine, theirs in zip(found, torch.autograd.grad(expected, (q, k, v), above), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_the_losses_carry_their_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    from ada_memory.engines import peft_head
    from ada_memory.engines.peft_linear import Layer

    monkeypatch.setattr(peft_head, "LOGITS", 3 * 50)  # three rows at a time
    generator = torch.Generator().manual_seed(2)
    states, base = (torch.randn(7, 16, generator=generator, requires_grad=True) for _ in range(2))
    head = Layer(torch.randn(50, 16, generator=generator), torch.randn(50, generator=generator))
    token, weight = torch.randint(50, (7,), generator=generator), torch.rand(7, generator=generator)
    logs = F.linear(states, head.weight, head.bias).log_softmax(-1)
    nll = -(weight * logs.gather(1, token[:, None])[:, 0]).sum()
    moved = (states - base.detach()).square().sum(-1) / base.detach().square().sum(-1)
    slack = moved.detach() * torch.tensor([2, 0.5, 2, 2, 0.5, 0, 0.9])
    for expected, told, (found, of_states) in (
        (nll, nll, likelihood(states.detach(), head, token, weight)),
        (moved.sum(), moved.sum(), drift(states.detach(), base.detach(), 0 * slack)),
        ((moved - slack).clamp_min(0).sum(), moved.sum(), drift(states.detach(), base.detach(), slack)),
    ):
        assert float(found) == pytest.approx(told.item(), rel=1e-5)
        torch.testing.assert_close(
            of_states, torch.autograd.grad(expected, states, retain_graph=True)[0], rtol=1e-4, atol=1e-5
        )


def test_training_takes_the_quick_way(tmp_path: Path) -> None:
    engine = PeftEngine(tiny_model(tmp_path / "m"), None, Hardware(device="cpu"))
    model = new_adapter(engine._model, TrainPlan(rank=2))
    assert isinstance(way(model, 0, engine._mixed, ROWS), Quick)
    assert EXACT.dtype == "float32"
