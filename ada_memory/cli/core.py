"""The core: what is replayed every night so that it is not forgotten. Files enter, rows leave."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ada_memory.cli.common import JsonFlag, answer, options
from ada_memory.errors import NotFound

if TYPE_CHECKING:
    from ada_memory.settings import Home
    from ada_memory.sovereign.bases import Base

core = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="What every night replays so that it is not forgotten."
)


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.add_typer(core, name="core")


@core.command("list")
def list_(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """Say how many rows the core has, by kind, and what you have added."""
    from rich.console import Group
    from rich.text import Text

    from ada_memory.cli.show import facts
    from ada_memory.sovereign import cores

    home, base = _mind(ctx)
    found = cores.listed(home, base)
    kinds = ", ".join(f"{kind} {count}" for kind, count in found.kinds.items())
    rows: list[tuple[str, object]] = [("rows", found.rows), ("base", found.base), ("kinds", kinds)]
    rows += [("added", f"{name}: {count} rows") for name, count in found.files.items()]
    note = "" if found.files else "Nothing of your own yet: `ada core add FILE`."
    answer(asdict(found), as_json, lambda: Group(facts(rows), Text(note)))


@core.command()
def add(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON lines, or one JSON list.")],
    as_json: JsonFlag = False,
) -> None:
    """Add rows to the core: chats (messages), Alpaca (instruction, output) or Dolly (instruction, response).

    The next night replays them beside the core that ships. Rows that are there already are left out, and
    so are empty or very long ones, and those that ask what the exam asks: it must stay unseen to prove
    anything.

    \b
    Examples:
      ada core add style.jsonl
      ada core add databricks-dolly-15k.jsonl
    """
    from rich.text import Text

    from ada_memory.sovereign import cores

    home, base = _mind(ctx)
    done = cores.add(home, base, file.expanduser())
    lines = [f"{done.added} rows of {done.file} ({done.format}) are in the core from the next night on."]
    if done.twice:
        lines.append(f"{done.twice} were there already.")
    if done.empty:
        lines.append(f"{done.empty} were left out: a message of theirs is empty.")
    if done.long:
        lines.append(f"{done.long} were left out: they have more than {cores.LONGEST:,} characters.")
    if done.asked:
        such = done.asked[0][:80]
        lines.append(f"{len(done.asked)} ask what the exam asks and were left out, such as: {such}")
    answer(asdict(done), as_json, lambda: Text("\n".join(lines)))


@core.command()
def remove(
    ctx: typer.Context,
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="Its name, as `ada core list` has it.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that was added.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Take rows that you have added out of the core again; the core that ships stays."""
    from rich.text import Text

    from ada_memory.sovereign import cores

    if (file is None) != everything:
        raise typer.BadParameter("name a file, or --all")
    home, _ = _mind(ctx)
    try:
        count = cores.remove(home, file)
    except NotFound:
        if file is None or "/" not in file:
            raise
        count = cores.remove(home, Path(file).name)
    answer({"removed": count}, as_json, lambda: Text(f"{count} rows are out of the core."))


def _mind(ctx: typer.Context) -> tuple[Home, Base]:
    from ada_memory.sovereign.bases import prepare_base

    settings, home = options(ctx).load()
    return home, prepare_base(home, settings.model)
