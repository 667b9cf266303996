"""The night's commands: fall asleep, run one stage by hand, read the morning, go back a generation."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from ada_memory.cli.common import JsonFlag, answer, console, daemon, options
from ada_memory.errors import Conflict, NotFound
from ada_memory.records import Depth, StageName

if TYPE_CHECKING:
    from ada_memory.client import Client

STAGES = ", ".join(get_args(StageName))
REJECTED, INTERRUPTED = 4, 130
forge = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Train an adapter by hand.")


def register(app: typer.Typer) -> None:
    """Add the night's commands to the app."""
    commands: dict[str, Callable[..., None]] = {
        "sleep": sleep,
        "pause": pause,
        "resume": resume,
        "wake": wake,
        "morning": morning,
        "nights": nights,
        "dream": dream,
        "map": map_,
        "rollback": rollback,
        "reset": reset,
    }
    for name, command in commands.items():
        app.command(name)(command)
    app.add_typer(forge, name="forge")


def sleep(
    ctx: typer.Context,
    until: Annotated[
        StageName | None, typer.Option(metavar="STAGE", help=f"Hold the night open after one of: {STAGES}.")
    ] = None,
    light: Annotated[
        bool, typer.Option("--light", help="Only what is new, in few cycles; it gives way to who asks.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch/--no-watch", help="Show the night as it happens.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Have a night now, or finish one that is held, and watch it.

    Ctrl-C only stops the watching: the night goes on. The exit code is 0 if a new generation
    serves or there was nothing to learn, 4 if the night was rejected or halted.

    \b
    Examples:
      ada sleep
      ada sleep --light             a nap: what is new, and nothing rehearsed
      ada sleep --until verify      dream and check the dreams, train nothing yet
      ada sleep --no-watch && ada status
    """
    depth: Depth | None = "light" if light else None
    if watch:
        night = _watched(ctx, until, as_json, depth, attach=until is None)
        if as_json:
            typer.echo(json.dumps(night))
        else:
            _farewell(night, until)
        raise typer.Exit(ending(night))
    from rich.text import Text

    with daemon(ctx) as client:
        opened = client.sleep(until, depth)
    line = f"Night {opened.get('night')} has begun; `ada status` says how far it is."
    answer(opened, as_json, lambda: Text(line))


def _watched(
    ctx: typer.Context, until: StageName | None, as_json: bool, depth: Depth | None = None, *,
    attach: bool = False,
) -> dict[str, Any]:
    """Start or continue a night and watch it to its end, or to `until`; with `--json` on standard error."""
    from ada_memory.cli.watch import watch

    night = ""
    try:
        with daemon(ctx) as client:
            night = _begin(client, until, depth, attach)
            watch(client, night, console(err=as_json))
            return client.night(night)
    except KeyboardInterrupt:
        if night:
            typer.echo(f"No longer watching; night {night} goes on: see `ada status`.", err=True)
        raise typer.Exit(INTERRUPTED) from None


def _begin(client: Client, until: StageName | None, depth: Depth | None, attach: bool) -> str:
    """The id of the night that POST /v1/sleep opens, or with `attach` of the one that is under way."""
    try:
        return str(client.sleep(until, depth)["night"])
    except Conflict:
        now = client.status()
        if not attach or now.get("state") == "awake" or not now.get("night"):
            raise
        typer.echo(f"Night {now['night']} is under way already.", err=True)
        return str(now["night"])


def ending(night: Mapping[str, Any]) -> int:
    """The exit code of a night: 0 well or still open, 4 rejected or halted."""
    report = night.get("report") or {}
    halted = any(row.get("outcome") == "halt" for row in night.get("stages") or [])
    return REJECTED if halted or report.get("halted") or report.get("verdict") == "reject" else 0


def _farewell(night: dict[str, Any], until: StageName | None) -> None:
    """The last words of a watched night."""
    from rich.text import Text

    from ada_memory.cli.report import summary

    out, report = console(), night.get("report")
    out.print()
    if report:
        out.print(Text(summary(report)))
        out.print(Text("`ada morning` tells the whole of it.", style="dim"))
    else:
        held = f"held after {until}" if until else "held"
        out.print(Text(f"The night is {held}; nothing has been activated. `ada sleep` finishes it."))


def pause(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """Stop the night that is under way where it is. What it holds in memory stays there.

    It stands still until `ada resume`, also if the daemon is stopped and started meanwhile;
    `ada wake` ends it instead.

    \b
    Example:
      ada pause
    """
    with daemon(ctx) as client:
        told = client.pause()
    _say(told, as_json, "stands still; `ada resume` lets it go on.")


def resume(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """Let a night that was paused go on, or a light one that gives way, at once.

    \b
    Example:
      ada resume
    """
    with daemon(ctx) as client:
        told = client.resume()
    still = "stands still while somebody asks." if told.get("paused") else "goes on."
    _say(told, as_json, still)


def wake(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """End the night that is under way, or one that is held. The generation before it serves on.

    What the night was to learn waits for the next one; its report is written.

    \b
    Example:
      ada wake
    """
    with daemon(ctx) as client:
        told = client.wake()
    _say(told, as_json, "is ended; what it was to learn waits for the next.")


def _say(told: dict[str, Any], as_json: bool, what: str) -> None:
    from rich.text import Text

    answer(told, as_json, lambda: Text(f"Night {told.get('night')} {what}"))


def _by_hand(ctx: typer.Context, until: StageName, names: tuple[StageName, ...], as_json: bool) -> None:
    """Run today's bundle up to a stage, then show what the named stages measured."""
    from rich.console import Group
    from rich.text import Text

    from ada_memory.cli import show

    night = _watched(ctx, until, as_json)
    rows = {show.stage_name(row): row for row in night.get("stages") or []}
    shown = {name: rows[name] for name in names if name in rows}
    result = {"night": show.night_name(night), "stages": list(shown.values())}
    empty = Text("This night has no such stage: `ada status` says how it stands.")
    answer(result, as_json, lambda: Group(Text(), *(map(show.figures, shown.values()) if shown else [empty])))
    raise typer.Exit(ending(night))


def dream(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """Dream of today and check the dreams; train nothing. The night is held: `ada sleep` finishes it.

    \b
    Example:
      ada dream
    """
    _by_hand(ctx, "verify", ("dream", "verify"), as_json)


@forge.callback()
def forge_root() -> None:
    """Train an adapter by hand."""


@forge.command()
def train(
    ctx: typer.Context,
    circadian: Annotated[
        bool, typer.Option("--circadian", help="On today's bundle, as the night would.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Train and merge tonight's adapter, and hold the night there. Nothing is activated.

    \b
    Example:
      ada forge train --circadian
    """
    if not circadian:
        raise typer.BadParameter("say --circadian: today's bundle is the only thing to train on so far")
    _by_hand(ctx, "merge", ("dataset", "train", "merge"), as_json)


def map_(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """Check the new model against its parent, figure by figure. Nothing is activated.

    \b
    Example:
      ada map
    """
    _by_hand(ctx, "verdict", ("map", "verdict"), as_json)


def morning(
    ctx: typer.Context,
    night: Annotated[str, typer.Argument(help="Which night: an id from `ada nights`.")] = "latest",
    as_json: JsonFlag = False,
) -> None:
    """The morning report: what was learned, what was not, and why.

    \b
    Examples:
      ada morning
      ada morning 2026-05-02
      ada morning --json | jq .verdict
    """
    from ada_memory.cli.report import render
    from ada_memory.cli.show import night_name

    with daemon(ctx) as client:
        found = client.night(night)
    report = found.get("report")
    if not report:
        raise NotFound(
            f"night {night_name(found)} has no report yet",
            hint="`ada status` says how far it is; `ada sleep` finishes a night that is held",
        )
    folder = _report_folder(ctx, night_name(found))
    lies = str(folder) if folder.is_dir() else ""
    answer(report, as_json, lambda: render(report, lies))


def _report_folder(ctx: typer.Context, night: str) -> Path:
    _, home = options(ctx).load()
    return home.nights / night / "report"


def nights(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    as_json: JsonFlag = False,
) -> None:
    """The nights so far, newest first.

    \b
    Example:
      ada nights --limit 7
    """
    from ada_memory.cli import show

    with daemon(ctx) as client:
        rows = client.nights(limit)
    answer({"nights": rows}, as_json, lambda: show.nights(rows))


def rollback(
    ctx: typer.Context,
    generation: Annotated[
        str | None, typer.Argument(help="Where to go back to; without it, the parent.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Let an earlier generation serve again. No memory and no generation is deleted.

    \b
    Examples:
      ada rollback
      ada rollback gen-0002
    """
    with daemon(ctx) as client:
        result = client.rollback(generation)
    _say_serving(result, as_json)


def reset(
    ctx: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Back to the untouched base model. The memories stay; `ada rollback gen-NNNN` takes it back.

    \b
    Examples:
      ada reset
      ada reset --yes
    """
    if not yes:
        if as_json or not sys.stdin.isatty():
            raise typer.BadParameter("say --yes: there is nobody to ask here")
        typer.confirm("Back to the untouched base model? The memories stay.", abort=True)
    with daemon(ctx) as client:
        result = client.reset()
    _say_serving(result, as_json)


def _say_serving(result: dict[str, Any], as_json: bool) -> None:
    from rich.text import Text

    before = f" (before: {result['previous']})" if result.get("previous") else ""
    answer(result, as_json, lambda: Text(f"{result.get('generation')} serves now{before}"))
