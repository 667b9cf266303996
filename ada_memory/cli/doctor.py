"""`ada doctor`: what the checks of `service.checkup` find, a line each, with what to do below it.

The doctor looks at a house whose daemon may be down, so it is the one command that does more than ask it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from ada_memory.cli.common import JsonFlag, Options, console, options
from ada_memory.errors import AdaError, BadSetting

if TYPE_CHECKING:
    from rich.text import Text

    from ada_memory.service.checkup import Case, Finding

ASK_SECONDS, DEEP_SECONDS = 10.0, 3600.0
MARKS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red"), "skipped": ("–", "dim")}
WORDS = {"ok": "well", "warn": "to look at", "fail": "failed", "skipped": "not looked at"}
NAME_WIDTH = 11


def register(app: typer.Typer) -> None:
    """Add the doctor to the app."""
    app.command()(doctor)


def doctor(
    ctx: typer.Context,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read every page of the journal and every byte of the models.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Look at everything that can be wrong, and say what to do about each. Nothing is changed.

    Works while the daemon runs and while it does not. The exit code is 1 if something has failed.

    \b
    Examples:
      ada doctor
      ada doctor --deep
      ada doctor --json | jq '.checks[] | select(.state == "fail")'
    """
    from ada_memory.service.checkup import examine

    case, told = _case(options(ctx), deep)
    out, states = console(), Counter[str]()
    rows = []
    for name, finding in examine(case, told):
        states[finding.state] += 1
        rows.append({"check": name, "state": finding.state, "found": finding.found, "mend": finding.mend})
        if not as_json:
            for line in _lines(name, finding, out.width):
                out.print(line, soft_wrap=True)
    well = not states["fail"]
    if as_json:
        typer.echo(json.dumps({"well": well, "counts": dict(states), "checks": rows}))
    else:
        counted = ", ".join(f"{states[state]} {word}" for state, word in WORDS.items() if states[state])
        out.print(f"\n{sum(states.values())} checks: {counted}.", style="bold" if well else "bold red")
    raise typer.Exit(0 if well else 1)


def _case(chosen: Options, deep: bool) -> tuple[Case, dict[str, Finding] | None]:
    """What there is to look at, and what the daemon says of its journal; None if none answers."""
    from ada_memory.service.checkup import Case, Finding
    from ada_memory.settings import Home, Settings, home_root

    env, bad = chosen.environment(), None
    try:
        settings, home = chosen.load()
    except BadSetting as error:
        settings, bad = Settings(), error
        home = Home(home_root(env), settings.mind.id)
    case = Case(home, settings, datetime.now(UTC), env, bad=bad, deep=deep)
    from dataclasses import replace

    from ada_memory.client import Client

    try:
        with Client(home.socket(settings.socket), timeout=ASK_SECONDS) as ada:
            case = replace(case, status=ada.status())
        with Client(home.socket(settings.socket), timeout=DEEP_SECONDS if deep else ASK_SECONDS) as ada:
            found = ada.checkup(deep)
    except AdaError as error:
        return replace(case, silence=error.message), None
    return case, {row["check"]: Finding(row["state"], row["found"], row["mend"]) for row in found}


def _lines(name: str, finding: Finding, width: int) -> Iterator[Text]:
    """One check: its mark, its name, what was found, and below it each mend on lines of its own."""
    from rich.text import Text

    from ada_memory.cli.text import clean

    mark, style = MARKS[finding.state]
    head = Text.assemble((f"{mark} ", style), (f"{name:<{NAME_WIDTH}}  ", "bold"))
    for row in Text(clean(finding.found)).wrap(console(), max(width - len(head), 24)):
        row.rstrip()
        yield head + row
        head = Text(" " * len(head))
    for mend in finding.mend.splitlines():
        yield from _mend(clean(mend), len(head), width)


def _mend(mend: str, indent: int, width: int) -> Iterator[Text]:
    """What to do: a command stays on one line, so that it can be copied whole; a sentence is wrapped."""
    from rich.text import Text

    start = Text(f"{' ' * indent}→ ", style="cyan")
    if mend.startswith("$ "):
        yield start + Text(mend.removeprefix("$ "), style="cyan")
        return
    for row in Text(mend, style="cyan").wrap(console(), max(width - len(start), 24)):
        row.rstrip()
        yield start + row
        start = Text(" " * len(start))
