"""What `ada try` prints at its end: the trial's figures enter, something that rich can print leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ada_memory.cli.show import exam, facts, rules, table
from ada_memory.cli.text import clean, count, duration, short

Figures = Mapping[str, Any]
LONGEST = 80


def page(made: Figures) -> RenderableType:
    """The whole of it: what became of each fact, the answers, the exam, the cost, how to go on."""
    parts: list[RenderableType] = [Text(), _became(made)]
    if any(row["asked"] for row in made["facts"]):
        parts += [_answers(made), Text(_heldout(made), style="dim"), Text()]
    parts += [exam(made["exam"])] if made["exam"] else []
    parts += [_craft(made)] if made["craft_after"] else []
    parts += [rules(made["rules_broken"])] if made["rules_broken"] else []
    parts += [_cost(made), Text(), *map(Text, conclusion(made))]
    return Group(*parts)


def _became(made: Figures) -> RenderableType:
    rows = table("Fact", "Read as", "Samples", "What became of it", right=("Samples",))
    for row in made["facts"]:
        read = "\n".join(short(claim, LONGEST) for claim in row["claims"]) or "nothing"
        style = "green" if row["learned"] else "yellow"
        cells = (Text(short(row["text"], LONGEST)), Text(read), Text(str(row["samples"])))
        rows.add_row(*cells, Text(clean(row["became"]), style=style))
    return rows


def _answers(made: Figures) -> RenderableType:
    rows = table("Question", "Before", "After")
    for asked in (asked for row in made["facts"] for asked in row["asked"]):
        mark = " (trained)" if asked["trained"] else ""
        sides = []
        for side in ("before", "after"):
            style = "green" if asked.get(f"right_{side}") else "red"
            sides.append(Text(short(asked.get(side, "–"), LONGEST), style=style))
        rows.add_row(Text(short(asked["question"], LONGEST) + mark), *sides)
    return rows


def _heldout(made: Figures) -> str:
    before, after = (made[f"recall_{side}"] for side in ("before", "after"))
    known = (
        f"Recall {_share(before)} before, {_share(after)} after, over {count(made['questions'], 'question')}"
    )
    return f"{known} in phrasings that the night kept back and never trained."


def _craft(made: Figures) -> RenderableType:
    rows = table("The night's own tasks", "Before", "After", right=("Before", "After"))
    for task, before in made["craft_before"].items():
        rows.add_row(Text(task), Text(_share(before)), Text(_share(made["craft_after"].get(task))))
    return rows


def _cost(made: Figures) -> RenderableType:
    memory, ahead = made["memory_mb"], made["projection"]
    stages = "  ".join(f"{name} {duration(value)}" for name, value in made["seconds_by_stage"].items())
    night = None
    if ahead:
        night = f"about {duration(ahead['seconds'])} (projected from {ahead['measured_on']}, not measured)"
    return facts(
        [
            ("night", f"{duration(made['seconds'])}: {stages}"),
            ("memory", f"{memory['sleeper']:,.0f} MB at most" if memory["sleeper"] else None),
            ("GPU memory", f"{memory['gpu']:,.0f} MB at most" if memory["gpu"] else None),
            ("100 memories", night),
            ("kept in", made["kept"]),
        ]
    )


def conclusion(made: Figures) -> list[str]:
    """What all of it means, and how to go on, in plain sentences."""
    name = clean(made["model"]["name"])
    said = [f"{name} {row['says'].partition(':')[0]}." for task, row in made["can"].items()
            if task in ("extract", "dream", "verify") and row["level"] != "can"]  # fmt: skip
    if made["active"]:
        said.append(f"It learned {made['learned']} of {count(len(made['facts']), 'fact')} overnight.")
        go = (
            "`ada post` and `ada sleep` do the same"
            if made["model"]["configured"]
            else f"ada model use {name}"
        )
        return [*said, f"To go on with it: {go}.{_kept(made)}"]
    if any(row["claims"] for row in made["facts"]):
        word = "was rejected" if made["verdict"] == "reject" else f"stopped at {made['stage']}"
        said.append(
            f"The night {word}: {clean(made['reason'])}. With your own mind the parent would keep serving."
        )
    elif all(row["route"] != "weights" for row in made["facts"]):
        said.append("None of these was for the weights: short sentences that say one thing are.")
    else:
        said.append(
            f"{name} read no fact out of any of these, so there was nothing to dream of or to train on."
        )
        said.append("Choose an instruct model, or a larger one; the seedling needs sentences like its own.")
    said.append("Nothing was learned." + _kept(made))
    return said


def _kept(made: Figures) -> str:
    return "" if made["kept"] else "  (Nothing of this trial is kept.)"


def _share(value: object) -> str:
    return f"{value:.0%}" if isinstance(value, int | float) else "–"
