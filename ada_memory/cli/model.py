"""The model: which model the mind lives on, and moving it to another. A name enters; a change leaves."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ada_memory.cli.common import JsonFlag, answer, console, options
from ada_memory.errors import AdaError, BadModel

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ada_memory.settings import Home, Settings
    from ada_memory.sovereign.choosing import Plan
    from ada_memory.sovereign.moving import Moved

model = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="The model that the mind lives on; moving to another."
)


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.add_typer(model, name="model")


@model.command()
def show(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """Say what serves: the generation, its base, the engine, parameters and context."""
    from ada_memory.cli.show import facts

    settings, home = options(ctx).load()
    found = _shown(home, settings)
    answer(found, as_json, lambda: facts(found.items()))


@model.command("list")
def list_(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """List the bases that lie on this machine, with their sizes; `*` marks the one in use."""
    from ada_memory.cli.show import table
    from ada_memory.sovereign import shelf

    settings, home = options(ctx).load()
    used = _shown(home, settings)["hash"]
    rows: list[dict[str, Any]] = [
        {
            "hash": entry.hash[:12], "names": sorted(entry.sources), "used": entry.hash[:12] == used,
            "bytes": sum(row[0] for row in entry.files.values()),
        }
        for entry in shelf.entries(home)
    ]  # fmt: skip

    def page() -> RenderableType:
        made = table("", "hash", "size", "came by the name", right=("size",))
        for row in rows:
            mark = "*" if row["used"] else ""
            made.add_row(mark, row["hash"], shelf.size(row["bytes"]), ", ".join(row["names"]))
        return made

    answer({"bases": rows}, as_json, page)


@model.command()
def use(
    ctx: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="seedling-2, a folder, a hub id (owner/model) or a hash.")
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Live on another model: look at it, say what it costs, and after a yes prepare it.

    What was learned lies in an adapter of the old model and fits no other: the coming nights learn it
    anew from the journal. The old line is kept; `ada model use NAME` with the old name goes back to it.
    With --json and without --yes only the plan is printed.

    \b
    Examples:
      ada model use HuggingFaceTB/SmolLM2-135M-Instruct
      ada model use ~/models/Qwen3-0.6B --yes
      ada model use seedling-2
    """
    from ada_memory.settings import home_root
    from ada_memory.sovereign import choosing, moving

    settings, home = options(ctx).load()
    plan = choosing.plan(home, settings, name)
    if as_json and not yes:
        typer.echo(json.dumps(asdict(plan)))
        raise typer.Exit(1 if plan.problems else 0)
    console(err=as_json).print(_plan(plan))
    if plan.problems:
        raise BadModel(
            f"{plan.name} cannot be used: {'; '.join(plan.problems)}",
            hint="name another model, or make room for this one",
            field="model.name",
        )
    if not yes and not typer.confirm("Use it?"):
        raise typer.Exit(1)
    file = home_root(options(ctx).environment()) / "etc" / "ada.toml"
    moved = moving.use(home, settings, name, file)
    answer({**asdict(plan), **asdict(moved)}, as_json, lambda: _moved(ctx, moved))


def _plan(plan: Plan) -> RenderableType:
    from ada_memory.cli.show import facts
    from ada_memory.sovereign.shelf import size

    memory = f"{size(plan.serve)} to serve, {size(plan.train)} by night, {size(plan.memory_free)} free"
    rough = f"about {max(plan.minutes or 0, 1):.0f} minutes for 100 memories"
    night = rough if plan.minutes else "not measured yet"
    return facts([
        ("model", plan.name), ("architecture", plan.architecture), ("engine", plan.engine),
        ("parameters", f"{plan.parameters / 1e6:,.1f} million"), ("context", f"{plan.context} tokens"),
        ("download", size(plan.download) if plan.download else "nothing, it is here"),
        ("disk", f"{size(plan.disk)} at most, {size(plan.disk_free)} free"),
        ("memory", memory), ("night", night), ("mind", "; ".join(plan.warnings)),
    ])  # fmt: skip


def _moved(ctx: typer.Context, moved: Moved) -> RenderableType:
    from rich.text import Text

    lines = [
        f"model.name is {moved.name} in {moved.file}.",
        f"{moved.generation} serves once the daemon starts again.",
    ]
    if moved.learns_anew:
        lines.append("What was learned before is learned anew by the coming nights; no memory is lost.")
    if options(ctx).load()[0].model.name != moved.name:
        lines.append("Beware: a flag or an ADA_MODEL__NAME in the environment names another model.")
    lines.append("Restart it now: stop `ada run` and start it again, or restart its service.")
    return Text("\n".join(lines))


def _shown(home: Home, settings: Settings) -> dict[str, Any]:
    """What serves, read from the files: the daemon need not run."""
    from ada_memory.engines.engine import named_engine
    from ada_memory.sovereign import choosing, lines, manifests, shelf
    from ada_memory.sovereign.bases import prepare_base

    base = prepare_base(home, settings.model)
    try:
        generation = manifests.active(home)
    except AdaError:
        generation = manifests.ROOT
    config = choosing.config_of(base.path)
    return {
        "generation": generation, "base": base.name, "hash": base.hash[:12], "folder": str(base.path),
        "architecture": str(next(iter(config.get("architectures") or ()), "")),
        "parameters": choosing.parameters(base.path), "context": choosing.context_of(config),
        "engine": named_engine(settings.model.engine, base.path), "dtype": settings.model.dtype,
        "size": shelf.size(sum(path.stat().st_size for path in base.path.iterdir())),
        "after_restart": lines.is_pending(home)[:12],
    }  # fmt: skip
