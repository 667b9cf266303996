"""`ada try`: five facts enter, a trial night with any model runs, and what it made of them is printed."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ada_memory.cli.common import JsonFlag, console, exit_code, explain, options
from ada_memory.errors import AdaError, BadInput

if TYPE_CHECKING:
    from ada_memory.settings import Home, Settings

WANTED, MOST = 5, 50
EXAMPLES = (
    "My dog is called Bramble.",
    "I work as a beekeeper.",
    "My sister lives in Tilmora.",
    "Tovin plays the cello.",
    "My favourite book is Silver Lantern.",
)
FAILED, REJECTED, INTERRUPTED = 1, 4, 130


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("try")(try_)


def try_(  # noqa: PLR0913  each flag is one
    ctx: typer.Context,
    model: Annotated[
        str | None, typer.Option(help="A folder or a Hugging Face id; else the model that is set.")
    ] = None,
    fact: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="A fact; may be given many times.")
    ] = None,
    file: Annotated[Path | None, typer.Option(metavar="FILE", help="Facts, one a line.")] = None,
    keep: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Keep the trial's home in this new folder.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Try a model: five facts, one real night, and what it made of them. Nothing is kept.

    Without --fact and --file the facts are asked for, or read from standard input. It runs on a home and
    a daemon of its own, beside yours. Exit code: 0 if the new model may serve, 1 if this model cannot learn
    this way, 4 if the night was rejected or halted.

    \b
    Examples:
      ada try
      ada try --model ./my-model
      ada try --fact "My dog is called Bramble." --fact "I work as a beekeeper." --json | jq .recall_after
    """
    settings, home = options(ctx).load()
    configured = model is None or model == settings.model.name
    if model:
        settings = settings.model_copy(update={"model": settings.model.model_copy(update={"name": model})})
    with _interruptible():
        told = facts(fact or (), file)
        result, code = _tried(told, settings, home, keep, as_json)
        result["model"]["configured"] = configured
    if as_json:
        typer.echo(json.dumps(result))
    else:
        from ada_memory.cli.trial_page import page

        console().print(page(result))
    raise typer.Exit(code)


def facts(given: Sequence[str], file: Path | None) -> list[str]:
    """The facts to try with: from flags and file, else typed, else piped in, else the examples.

    Raises:
        BadInput: the file cannot be read, or there are too many.
    """
    told = [line.strip() for line in (*given, *_lines(file)) if line.strip()]
    if not told and not given and file is None:
        told = _typed() if sys.stdin.isatty() else [line.strip() for line in sys.stdin if line.strip()]
    if not told:
        told = list(EXAMPLES)
        typer.echo("Nothing was typed, so here are five to try with:", err=True)
        for text in told:
            typer.echo(f"  {text}", err=True)
    if len(told) > MOST:
        raise BadInput(f"{len(told)} facts are more than {MOST}", hint="a trial is for a few", field="fact")
    return told


def _lines(file: Path | None) -> list[str]:
    try:
        return file.read_text("utf-8").splitlines() if file else []
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{file} cannot be read: {error}", field="file") from error


def _typed() -> list[str]:
    """Five lines from whoever sits there; an empty one ends it."""
    typer.echo("Tell five facts, one a line, as you would say them. An empty line ends.", err=True)
    told: list[str] = []
    while len(told) < WANTED:
        said = typer.prompt(f"{len(told) + 1}", default="", show_default=False, err=True).strip()
        if not said:
            break
        told.append(said)
    return told


@contextmanager
def _interruptible() -> Iterator[None]:
    """One Ctrl-C, or a request to end, tidies up and leaves; another one meanwhile changes nothing."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def leave(_: int, __: FrameType | None) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, leave) for number in numbers}
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("Interrupted: nothing of it is kept.", err=True)
        raise typer.Exit(INTERRUPTED) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tried(
    told: Sequence[str], settings: Settings, home: Home, keep: Path | None, as_json: bool
) -> tuple[dict[str, Any], int]:
    """Run the trial; figures and exit code. With --json an error is figures too."""
    from ada_memory.bench.trial import Trial, run

    try:
        result = run(Trial(told, settings, home, keep), console(err=as_json))
    except AdaError as error:
        if not as_json:
            raise
        typer.echo(explain(error), err=True)
        said = {"type": type(error).__name__, "message": error.message, "hint": error.hint}
        return {"model": {"name": settings.model.name}, "error": said}, exit_code(error)
    return result, ending(result)


def ending(result: Mapping[str, Any]) -> int:
    """0 if the new model may serve, 1 if nothing could be read out of any fact, else 4."""
    if result["active"]:
        return 0
    return REJECTED if any(row["claims"] for row in result["facts"]) else FAILED
