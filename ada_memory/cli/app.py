"""The Typer app: global flags enter, a command runs, an exit code leaves.

Exit codes: 0 well, 1 an error that says what to do, 2 bad usage, 3 the daemon cannot be reached,
4 the night was rejected or halted, 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer

from ada_memory import __version__
from ada_memory.cli import core, day, doctor, model, night, trial, why, workshop
from ada_memory.cli.common import Options, exit_code, explain, hoist, pairs
from ada_memory.errors import AdaError

app = typer.Typer(
    name="ada",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: importing rich would double the time that `ada --help` takes
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (day, night, model, core, trial, doctor, why, workshop):
    module.register(app)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"ada {__version__}")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    home: Annotated[
        Path | None, typer.Option("--home", metavar="FOLDER", help="Where etc/ and var/ lie; else $ADA_HOME.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="SECTION.KEY=VALUE", help="Change one setting, e.g. --set sunset.at=03:00."
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Ada gives a local language model a day and a night.

    By day it keeps what you tell it; by night it dreams of it, trains on its dreams,
    checks itself and wakes as a model that knows yesterday.

    \b
    A first day:
      ada run &                              start the daemon
      ada post "My dog is called Bruno."     tell it something
      ada sleep                              have a night now, and watch it
      ada ask "What is my dog called?" --no-recall
      ada morning                            what was learned, and what was not

    Every command explains itself: `ada sleep --help`. Most take --json.
    --home and --set may stand anywhere on the line.
    """
    ctx.obj = Options(home=home.expanduser().resolve() if home else None, flags=pairs(settings or []))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (`sys.argv` by default) and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show ✓ shows ? instead of failing
    try:
        app(args=hoist(sys.argv[1:] if argv is None else argv), prog_name="ada")
    except AdaError as error:
        typer.echo(explain(error), err=True)
        return exit_code(error)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    return 0
