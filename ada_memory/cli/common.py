"""What every command shares: global options, the way to the daemon, how answers and errors are printed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ada_memory.errors import AdaError, Unavailable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from ada_memory.client import Client
    from ada_memory.settings import Home, Settings

GLOBAL = ("--home", "--set")
PIPE_WIDTH = 120
"""Columns of plain output when nothing says how wide the reader is."""

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


@dataclass(frozen=True, slots=True)
class Options:
    """The flags that stand before a command: another home, settings that differ."""

    home: Path | None = None
    flags: Mapping[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """The process environment with `--home` in it."""
        return {**os.environ, **({"ADA_HOME": str(self.home)} if self.home else {})}

    def load(self) -> tuple[Settings, Home]:
        """Read the settings and name the folders.

        Raises:
            BadSetting: an unknown key or a value that cannot be used.
        """
        from ada_memory.settings import Home, home_root, load

        env = self.environment()
        settings = load(env=env, flags=self.flags)
        return settings, Home(home_root(env), settings.mind.id)


def pairs(texts: Sequence[str]) -> dict[str, str]:
    """`["sunset.at=03:00"]` → `{"sunset.at": "03:00"}`; anything else is bad usage."""
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or "." not in key:
            raise typer.BadParameter(f"--set takes section.key=value, such as sunset.at=03:00, not {text!r}")
        found[key.strip()] = value
    return found


def hoist(argv: Sequence[str]) -> list[str]:
    """Put `--home X` and `--set K=V` in front, wherever they stood before a `--`."""
    front: list[str] = []
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        if word == "--":
            return [*front, *rest, word, *words]
        if word in GLOBAL:
            front += [word, *([value] if (value := next(words, None)) is not None else [])]
        elif word.startswith(tuple(name + "=" for name in GLOBAL)):
            front.append(word)
        else:
            rest.append(word)
    return [*front, *rest]


def options(ctx: typer.Context) -> Options:
    """The global options of this command line."""
    found = ctx.find_object(Options)
    return found if found is not None else Options()


@contextmanager
def daemon(ctx: typer.Context) -> Iterator[Client]:
    """A client of the daemon that the settings name.

    Raises:
        BadSetting: the settings cannot be read.
    """
    from ada_memory.client import Client

    settings, home = options(ctx).load()
    with Client(home.socket(settings.socket)) as client:
        yield client


def console(*, err: bool = False) -> Console:
    """Where people read: colour only on a terminal that wants it, no markup in stored text."""
    from rich.console import Console

    stream = sys.stderr if err else sys.stdout
    width = None if stream.isatty() else int(os.environ.get("COLUMNS") or PIPE_WIDTH)
    return Console(file=stream, width=width, markup=False, highlight=False, emoji=False)


def answer(value: object, as_json: bool, render: Callable[[], RenderableType]) -> None:
    """Print a result: one line of JSON, or what `render` makes of it."""
    if as_json:
        typer.echo(json.dumps(value))
    else:
        console().print(render())


def explain(error: AdaError) -> str:
    """`error: what happened`, then why, then what to do, as far as the error knows."""
    hint = error.hint or ("start the daemon with `ada run`" if isinstance(error, Unavailable) else "")
    lines = [f"error: {error.message or type(error).__name__}"]
    if error.__cause__ is not None and str(error.__cause__) not in error.message:
        lines.append(f"  why: {error.__cause__}")
    if hint:
        lines.append(f"  do:  {hint}")
    return "\n".join(lines)


def exit_code(error: AdaError) -> int:
    """3 if the daemon cannot be reached, else 1."""
    return 3 if isinstance(error, Unavailable) else 1


def read_text(words: str | None, what: str) -> str:
    """The text of a command: its argument, or standard input for `-`.

    Raises:
        typer.BadParameter: there is no text.
    """
    text = sys.stdin.read() if words == "-" else words or ""
    if not text.strip():
        raise typer.BadParameter(f"there is no {what}: give it as an argument, or `-` to read standard input")
    return text.rstrip("\n")
