"""The recipes of others: each is what its authors publish, runs as such, and is told of if it breaks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors import safe_open

from ada_memory.bench import recipes, tiny
from ada_memory.bench.recipe_table import RATES, RECIPES, Material, Recipe, rates
from ada_memory.bench.recipes import Bench, Ground, attempt, best
from ada_memory.cli.bench_tables import recipes as tables
from ada_memory.cli.common import console
from ada_memory.errors import BadInput
from ada_memory.records import Message, Sample
from ada_memory.seedling import exam
from ada_memory.settings import Home, ModelSettings
from ada_memory.sovereign.bases import prepare_base

BY_NAME = {recipe.name: recipe for recipe in RECIPES}
ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


# ---- the table ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "rate", "rank", "scale", "layers", "targets", "steps"),
    [
        ("circadia", 2e-5, 8, 20, 16, (), 50),
        ("sleeping-llm", 1e-4, 16, 2, 8, (), 25 + 20),
        ("sleeping-llm-code", 1e-4, 8, 20, 8, (), 25 + 20),
        ("sleeping-llm-2026", 1e-4, 8, 20, 8, (), 10 * 20),
        ("sage", 1e-5, 4, 2, 0, ("q_proj", "v_proj"), 3 * (25 + 20)),
    ],
)
def test_a_recipe_is_what_its_authors_publish(
    name: str, rate: float, rank: int, scale: float, layers: int, targets: tuple[str, ...], steps: int
) -> None:
    plan = BY_NAME[name].plan
    assert (plan.learning_rate, plan.rank, plan.alpha / plan.rank) == (rate, rank, scale)
    assert (plan.last_layers, plan.targets) == (layers, targets)
    assert BY_NAME[name].steps(25 + 20, 20) == steps
    assert (plan.dropout, plan.weight_decay) == ((0.05, 0.01) if name == "sage" else (0.0, 0.0))
    # none of them has a schedule, a mask, a batch, clipping, or anything that holds the base
    assert not (plan.warmup or plan.decay or plan.mask_prompt or plan.drift_weight)
    assert plan.batch_size == 1
    assert plan.max_grad_norm > 1e6


def row(text: str, weight: float = 1.0) -> Sample:
    return Sample((Message("user", text), Message("assistant", "Noted.")), "new", weight)


DAY = Material(
    turns=tuple(row(f"turn {n}", n / 10) for n in range(1, 11)),
    pairs=tuple(row(f"pair {n}") for n in range(10)),
    identity=(row("Who are you?"),),
)


def said(recipe: Recipe) -> list[str]:
    return [sample.messages[0].content for sample in recipe.rows(DAY)]


def test_recipes_train_on_what_they_prescribe() -> None:
    turns, pairs = [f"turn {n}" for n in range(1, 11)], [f"pair {n}" for n in range(10)]
    assert said(BY_NAME["circadia"]) == turns
    assert said(BY_NAME["sage"]) == turns[::-1]  # the weightiest first
    assert said(BY_NAME["sleeping-llm"]) == [*pairs, *turns, "turn 10", "turn 9", "Who are you?"]
    assert said(BY_NAME["sleeping-llm-code"]) == said(BY_NAME["sleeping-llm"])
    assert sorted(said(BY_NAME["sleeping-llm-2026"])) == sorted(pairs * 2)


def test_only_sage_weighs_by_salience() -> None:
    for recipe in RECIPES:
        weights = {sample.weight for sample in recipe.rows(DAY)}
        assert weights == ({n / 10 for n in range(1, 11)} if recipe.name == "sage" else {1.0})


def test_a_sweep_holds_the_published_rate_and_two_decades_above_it() -> None:
    for recipe in RECIPES:
        tried = rates(recipe)
        assert {recipe.plan.learning_rate, *RATES} == set(tried)
        assert list(tried) == sorted(tried)
        assert tried[-1] >= 100 * recipe.plan.learning_rate


# ---- the choice of a rate -------------------------------------------------------------------


def tuned(rate: float, recall: float, core: float) -> recipes.Figures:
    return {"learning_rate": rate, "recall_tuning": recall, "core_tuning": core}


def test_recall_chooses_then_core_then_the_smaller_rate() -> None:
    by = ("recall_tuning", "core_tuning")
    assert best([tuned(1e-5, 0.1, 1.0), tuned(1e-4, 0.6, 0.5), tuned(1e-3, 0.4, 0.9)], *by) == 1e-4
    assert best([tuned(1e-4, 0.6, 0.5), tuned(1e-3, 0.6, 0.7)], *by) == 1e-3
    assert best([tuned(1e-3, 0.6, 0.7), tuned(1e-4, 0.6, 0.7)], *by) == 1e-4


def test_a_broken_run_is_never_the_best() -> None:
    broken: recipes.Figures = {"learning_rate": 1.0, "recall_tuning": None, "failed": "NaN"}
    assert best([broken, tuned(1e-4, 0.0, 0.9)], "recall_tuning", "core_tuning") == 1e-4
    assert best([broken], "recall_tuning", "core_tuning") is None


# ---- for real -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    scratch = tmp_path_factory.mktemp("recipes")
    return Bench(prepare_base(Home(scratch), ModelSettings()), ModelSettings(threads=1), scratch)


@pytest.fixture(scope="module")
def day(bench: Bench) -> Ground:
    return recipes.ground(bench, 3, 5, exam.core_exam("judge", 5)[:40])


def test_the_day_is_told_and_asked_apart(day: Ground) -> None:
    material = day.material
    assert len(material.turns) == len(material.pairs) == 3 + 2  # facts and wishes
    assert len(material.identity) == 3
    assert all(0 < turn.weight <= 1 for turn in material.turns)
    assert all(len(turn.messages) == 2 and turn.messages[1].content for turn in material.turns)
    values = {question.answer for question in day.asked}
    answers = " ".join(pair.messages[1].content for pair in material.pairs)
    assert all(value in answers for value in values)
    asked = {question.messages[0].content for question in day.asked}
    assert not asked & {pair.messages[0].content for pair in material.pairs}


def trained(bench: Bench) -> Iterator[tuple[str, int]]:
    """Target and layer of every matrix of the adapter that was trained last."""
    with safe_open(bench.scratch / "adapter" / "adapter_model.safetensors", "np") as file:
        for key in file.keys():  # noqa: SIM118  not a mapping
            found = re.search(r"layers\.(\d+)\..*\.(\w+_proj)\.lora_A", key)
            if found:
                yield found[2], int(found[1])


def test_sage_trains_q_and_v_alone(bench: Bench, day: Ground) -> None:
    met = attempt(bench, BY_NAME["sage"], 1e-4, day, core=True)
    assert {target for target, _ in trained(bench)} == {"q_proj", "v_proj"}
    assert (met["steps"], met["rows"], met["epochs"]) == (15, 5, 3)
    assert 0 <= met["recall"] <= 1
    assert 0 <= met["core"] <= 1
    assert met["seconds"] > 0


def test_ten_iterations_a_fact_teach_and_forget(bench: Bench, day: Ground) -> None:
    taught = attempt(bench, BY_NAME["sleeping-llm-2026"], 1e-3, day, core=True)
    layers = bench.engine().layers
    assert {*trained(bench)} == {(target, layer) for target in ALL for layer in range(layers)}
    assert taught["steps"] == 50
    before = recipes._ask(bench.engine(), day)
    assert taught["recall"] > before["recall"]
    assert taught["core"] < before["core"]  # nothing in it holds the base


def test_iterations_end_in_the_middle_of_an_epoch(bench: Bench, day: Ground) -> None:
    short = replace(BY_NAME["circadia"], iterations=7)
    met = attempt(bench, short, 2e-5, day, core=False)
    assert (met["steps"], met["epochs"]) == (7, 2)
    assert "core" not in met


def test_a_recipe_that_breaks_is_told_of(bench: Bench, day: Ground) -> None:
    broken = BY_NAME["circadia"]
    broken = replace(broken, plan=replace(broken.plan, learning_rate=1e30))
    sweep = [recipes._tried(bench, broken, 1e30, day, day)]
    assert sweep[0]["recall_heldout"] is None
    assert "broke" in sweep[0]["failed"]
    (shown,) = recipes._shown(bench, broken, sweep, day)
    assert (shown["name"], shown["kind"], shown["recall_heldout"]) == ("circadia", "published", None)
    assert "broke" in shown["failed"]
    drawn = printed({"recipes": [shown], "sweeps": sweep})
    assert drawn.count("failed: training broke") == 2


def printed(result: recipes.Figures) -> str:
    out = console()
    with out.capture() as found:
        out.print(tables(result), width=300)
    return found.get()


def test_a_recipe_is_swept_and_shown() -> None:
    one = {"model.threads": "1"}
    result = recipes.run(2, 3, only="sleeping-llm", settings=one, grid=(1e-3,), core_items=30)
    assert [made["learning_rate"] for made in result["sweeps"]] == [1e-4, 1e-3]
    assert all(made["recall_tuning"] is not None for made in result["sweeps"])
    kinds = {made["kind"]: made["learning_rate"] for made in result["recipes"]}
    assert kinds["published"] == 1e-4
    assert kinds["swept"] == best(result["sweeps"], "recall_tuning", "core_tuning")
    for made in result["recipes"]:
        assert {"name", "learning_rate", "recall_heldout", "core_after", "seconds"} <= made.keys()
        assert made["rank"] == 16
    text = printed(result)
    assert text.count("sleeping-llm") == len(result["recipes"]) + len(result["sweeps"])


def test_a_night_that_breaks_is_told_of(tmp_path: Path) -> None:
    """No daemon can bind a socket whose path is too long, so there is no night at all."""
    model = tiny.make(tmp_path / "model")
    settings = {"model.name": str(model), "socket.path": str(tmp_path / ("x" * 200))}
    result = recipes.run(1, 3, only="ada", home=tmp_path / "home", settings=settings, core_items=3)
    (ours,) = result["recipes"]
    assert (ours["name"], ours["recall_heldout"], ours["rank"]) == ("ada", None, 32)
    assert "the daemon ended" in ours["failed"]
    assert "failed: the daemon ended" in printed(result)


@pytest.mark.long
def test_a_night_of_ours_stands_beside_them() -> None:
    result = recipes.run(3, 3, only="ada", settings={"model.threads": "1"})
    (ours,) = result["recipes"]
    assert "failed" not in ours
    assert ours["recall_heldout"] > result["recall_before"]
    assert ours["seconds"] > ours["seconds_train"] > 0
    assert min(ours["steps"], ours["rows"], ours["epochs"]) > 0
    assert result["sweeps"] == []


def test_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(BadInput, match="no recipe called 'sleep'"):
        recipes.run(2, 3, only="sleep")
