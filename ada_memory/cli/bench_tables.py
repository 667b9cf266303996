"""Benchmarks that compare many runs, made readable: their JSON enters, tables leave. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ada_memory.cli.show import facts, table
from ada_memory.cli.text import clean, duration, short

WHY = 160
"""Characters of the reason why a run broke; the JSON has all of it."""


def recipes(result: Mapping[str, Any]) -> RenderableType:
    """Every recipe on a line, below them every learning rate that was tried."""
    about = ((name, result.get(name.replace(" ", "_"))) for name in ("model", "device", "facts", "seed"))
    before = ((f"{name} before", _share(result.get(f"{name}_before"))) for name in ("recall", "core"))
    return Group(facts((*about, *before)), Text(), _beside(result["recipes"]), _sweeps(result["sweeps"]))


def cycles(result: Mapping[str, Any]) -> RenderableType:
    """Every night on a line, below each what one REM cycle more has brought since the one before."""
    right = ("Cycles", "Dreams each", "Held", "Bridges", "Lucid", "Recall", "Core", "Dreaming", "All")
    made = table(*right, right=right)
    for row in result["nights"]:
        told = (row["cycles"], row["density"], row["dreams_held"], row["bridges"])
        shares = (row["lucidity"][-1], row["recall_heldout"], row["core_after"])
        took = (duration(row["seconds_dreaming"]), duration(row["seconds"]))
        if more := row["a_cycle_more"]:
            gained = (f"{more[name]:+.3f}" for name in ("recall_heldout", "core_after"))
            cost = (f"{more[name]:+.0f} s" for name in ("seconds_dreaming", "seconds"))
            counts = (f"{more[name]:+.0f}" for name in ("dreams_held", "bridges"))
            made.add_row("one more", "", *counts, "", *gained, *cost, style="dim")
        made.add_row(*map(str, told), *map(_share, shares), *took)
    return Group(facts((name, result[name]) for name in ("facts", "seed")), Text(), made)


def seal(result: Mapping[str, Any]) -> RenderableType:
    """A line a night: what is known of its facts, of the first day's and of all so far, either way."""
    ways = {"stacked": "Stacked", "ada": "Ada"}
    heads = [head for name in ways.values() for head in (f"{name}: tonight's", "First", "All", "Core")]
    made = table("Night", *heads, right=("Night", *heads))
    for at in range(result["nights"]):
        shares: list[float] = []
        for way in ways:
            known = result[way]["matrix"][at][: at + 1]
            shares += (known[-1], known[0], fmean(known), result[way]["core"][at])
        made.add_row(str(at + 1), *map(_share, shares))
    about = [(name.replace("_", " "), result[name]) for name in ("facts_per_night", "seed")]
    about += [(f"{way} core before".capitalize(), _share(result[way]["core_before"])) for way in ways]
    legend = Text("Stacked: each edit is merged into the weights, as SEAL does.")
    return Group(facts(about), Text(), made, legend)


def _beside(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    right = ("Learning rate", "Recall", "Core", "Training", "All")
    made = table("Recipe", "How", *right, right=right)
    for row in rows:
        why = f", failed: {short(row['failed'], WHY)}" if "failed" in row else ""
        rate, recall, core = _rate(row["learning_rate"]), row["recall_heldout"], row["core_after"]
        took = (duration(row["seconds_train"]), duration(row["seconds"]))
        cells = (clean(row["name"]), clean(row["kind"]) + why, rate, _share(recall), _share(core), *took)
        made.add_row(*map(Text, cells), style="bold" if row["kind"] == "night" else "")
    return made


def _sweeps(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    right = ("Learning rate", "Recall, tuning day", "Core, tuning day", "Recall")
    made = table("Sweep", *right, "", title="Learning rates, chosen on the tuning day", right=right)
    for row in rows:
        shares = (_share(row.get(name)) for name in ("recall_tuning", "core_tuning", "recall_heldout"))
        why = f"failed: {short(row['failed'], WHY)}" if "failed" in row else ""
        made.add_row(*map(Text, (clean(row["name"]), _rate(row["learning_rate"]), *shares, why)))
    return made


def _rate(value: float) -> str:
    return f"{value:.0e}"


def _share(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else "–"
