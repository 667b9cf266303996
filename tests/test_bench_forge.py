"""The training benchmark: its rows, its arithmetic, who may race, and a short race."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest

from ada_memory.bench import day as days
from ada_memory.bench import forge
from ada_memory.bench import forge_data as data
from ada_memory.bench import forge_race as racing
from ada_memory.bench.clock import Clock, Job, peak_rss
from ada_memory.bench.forge_race import Contender
from ada_memory.engines.engine import open_engine
from ada_memory.errors import AdaError, BadInput
from ada_memory.forge.dataset import prompt_of
from ada_memory.forge.phrasings import normalise
from ada_memory.records import Message

JOB = Job("model", "data", 2, 16, 6, 16, 2.0, 1e-3, 0.1, 7)
SMALL = {**data.QWEN, "vocab_size": 2_048, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2}  # fmt: skip


def test_the_rows_are_a_nights_own_and_hold_nothing_that_judges() -> None:
    night = data.night(facts=3, seed=5)
    judged = {normalise(prompt) for prompt in days.withheld(days.day(3, 5))}
    stop = {prompt_of(row) for row in night.stop}
    assert len(night.train) > 60
    assert stop and not stop & {prompt_of(row) for row in night.train}
    assert not judged & {prompt_of(row) for row in (*night.train, *night.stop)}
    epoch = data.epoch(night)
    pools = [row.pool for row in epoch if row.pool]
    assert len(pools) == len(set(pools)) == len({row.pool for row in night.train if row.pool})
    assert len(epoch) - len(pools) == sum(not row.pool for row in night.train)
    assert night == data.night(facts=3, seed=5) != data.night(facts=3, seed=6)


def test_rows_are_spread_over_the_night_and_written_the_shortest_first(tmp_path: Path) -> None:
    rows = data.spread(data.epoch(data.night(facts=2, seed=5)), 20)
    data.write_rows(rows, data.SEEDLING, tmp_path / "rows")
    job = replace(JOB, data=str(tmp_path / "rows"))
    lengths = [sum(len(message["content"]) for message in chat) for chat in job.rows()]
    assert {tuple(m["content"] for m in chat) for chat in job.rows()} == {
        tuple(m.content for m in row.messages) for row in rows
    }
    assert len(lengths) == 20
    assert sum(lengths[:10]) < sum(lengths[10:])


def test_the_random_model_is_one_that_the_engine_reads_whole(tmp_path: Path) -> None:
    engine = open_engine("peft", data.write_qwen(tmp_path / "qwen", 1, SMALL))
    assert engine.layers == 2
    scores = engine.score([(Message("user", "Hello"),)], ["Hello."])
    assert scores[0].mean() == pytest.approx(-7.62, abs=0.3)  # it knows nothing: -ln(2048)


def test_a_rate_leaves_the_first_update_out_and_counts_every_token_once_an_epoch() -> None:
    result = {"seconds": [60.0, 1.0, 1.0, 1.0, 1.0, 1.0], "total_tokens": 300}
    assert racing.rate(result, JOB) == pytest.approx(600 / 6)


def test_other_data_than_ours_ends_the_race() -> None:
    one, other = ({"trained_tokens": 10, "total_tokens": total} for total in (30, 31))
    forge._assert_same({"ada": [one, one], "trl": [one]})
    with pytest.raises(AdaError, match="different data"):
        forge._assert_same({"ada": [one], "trl": [one, other]})


def test_speedups_are_of_each_round_and_only_where_both_ran() -> None:
    speeds = {"ada": [3_000, 1_000, 1_800], "trl": [2_000, 1_000, 600]}  # a slow minute hits both
    found = {name: {"tokens_per_second_runs": runs} for name, runs in speeds.items()}
    assert forge._speedups(forge.SPEEDUPS["seedling"], found) == {"speedup_trl": 1.5}
    runs = [
        {"tokens_per_second": speed, "losses": [3.0, 1.0], "seconds": [2.0, 1.0], "peak_rss_mib": 9.0,
         "trained_tokens": 4, "total_tokens": 9, "variant": {}, "device": "a", "versions": {}}
        for speed in (10.0, 40.0, 20.0)
    ]  # fmt: skip
    figures = forge._figures(replace(JOB, updates=2), runs, [])
    assert (figures["tokens_per_second"], figures["spread"]) == (20.0, 1.5)
    assert (figures["loss_first"], figures["loss_last"]) == (3.0, 1.0)
    assert (figures["total_tokens"], figures["trained_tokens"]) == (18, 8)


def test_who_is_unknown_is_named_and_who_is_missing_says_how_to_come() -> None:
    with pytest.raises(BadInput, match="unsloth") as caught:
        forge.run(against=["trl", "unsloth"])
    assert "mlx-lm, trl" in caught.value.hint
    with pytest.raises(BadInput, match="7b"):
        forge.run(against=[], models=["7b"])
    with pytest.raises(BadInput, match="jax"):
        forge.run(against=[], engines=["jax"])
    with pytest.raises(BadInput, match="warm-up"):
        forge.run(against=[], steps=1)
    found, missing = racing.field_of(["mlx-lm", "trl"], [("ada", "peft")], installed=lambda module: False)
    assert [contender.name for contender in found] == ["ada"]
    assert ".[bench]" in missing["trl"]
    assert ".[mlx]" in missing["mlx-lm"]


def test_a_runner_that_fails_says_with_what() -> None:
    with pytest.raises(AdaError, match="no such folder|is not a model folder|cannot be read"):
        racing.race(racing.ours("peft", "ada"), replace(JOB, model="/nowhere"), {})


def test_the_fastest_variant_of_each_stage_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = {("a", "x"): 1.0, ("b", "x"): 3.0, ("b", "y"): 2.0, ("b", "z"): 4.0}
    asked: list[tuple[str, str]] = []

    def race(contender: Contender, job: Job, variant: dict[str, str]) -> dict[str, object]:
        asked.append((variant["dtype"], variant["batches"]))
        return {"tokens_per_second": speeds[asked[-1]]}

    monkeypatch.setattr(racing, "race", race)  # the process edge
    stages = (({"dtype": "a"}, {"dtype": "b"}), ({"batches": "x"}, {"batches": "y"}, {"batches": "z"}))
    contender = Contender("trl", "nobody", stages, {"batches": "x"})
    chosen, tried = racing.best(contender, JOB, lambda said: None)
    assert chosen == {"dtype": "b", "batches": "z"}
    assert asked == list(speeds)  # what was tried in one stage is not tried again in the next
    assert len(tried) == 4


def test_a_clock_takes_its_own_seconds_or_those_it_is_told() -> None:
    clock = Clock()
    clock.start()
    clock.step(1.5)
    clock.step(0.5, seconds=20.0)
    assert clock.losses == [1.5, 0.5]
    assert clock.seconds[0] < clock.seconds[1] == 20.0
    assert peak_rss() > 2**20


def test_a_short_race_of_our_own(tmp_path: Path) -> None:
    figures = forge.run(against=[], engines=["peft"], models=["seedling"], facts=2, repeats=1, steps=3)
    ours = figures["contenders_seedling"]
    assert isinstance(ours, dict)
    assert ours["ada-peft"]["updates"] == 3
    assert ours["ada-peft"]["total_tokens"] > ours["ada-peft"]["trained_tokens"] > 0
    assert ours["ada-peft"]["loss_alike"]
    assert json.loads(json.dumps(figures)) == figures


PEERS = [name for name, module in (("mlx-lm", "mlx_lm"), ("trl", "trl")) if importlib.util.find_spec(module)]


@pytest.mark.long
@pytest.mark.skipif(not PEERS, reason="no competitor is installed")
def test_the_competitors_train_the_same_rows() -> None:
    figures = forge.run(against=PEERS, engines=["default"], models=["seedling"], facts=2, repeats=1, steps=3)
    assert figures["left_out"] == {} or set(figures["left_out"]) == {"mlx-lm-blas"}  # type: ignore[call-overload]
    contenders = figures["contenders_seedling"]
    assert isinstance(contenders, dict)
    assert {"mlx-lm", "trl"} & set(contenders) == set(
        PEERS
    )  # and the bench itself saw that the data are equal
    assert all(contender["loss_last"] < 20 for contender in contenders.values())
    assert "seconds_to_recall" in figures
