"""The day's commands: start the daemon, tell it things, ask it things, look at what it keeps."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ada_memory.cli.common import JsonFlag, answer, console, daemon, options, read_text
from ada_memory.errors import BadInput, Unavailable

if TYPE_CHECKING:
    from ada_memory.client import Client

PosterRole = Literal["user", "assistant", "tool", "thought"]
PosterKind = Literal["chat", "rag", "code"]
APP = "ada-cli"


class Tag(StrEnum):
    """What may be asked of an interaction: keep it from the weights, from recall, or for another night."""

    NO_TRAIN = "no-train"
    NO_RECALL = "no-recall"
    LATER = "later"


def register(app: typer.Typer) -> None:
    """Add the day's commands to the app."""
    commands: tuple[Callable[..., None], ...] = (run, post, ask, status, memories)
    for command in commands:
        app.command()(command)


def run(ctx: typer.Context) -> None:
    """Start the daemon here, in the foreground, until Ctrl-C.

    It takes interactions, answers questions and sleeps when it is time. Settings come
    from etc/ada.toml, the environment and --set; `ada config show` lists them.

    \b
    Examples:
      ada run
      ada run --set sunset.capacity=8 --set sunset.at=03:00
    """
    chosen = options(ctx)
    chosen.load()  # a bad setting is told here, in the words of the flag that was typed
    words = [sys.executable, *_daemon_words(), *(["--home", str(chosen.home)] if chosen.home else [])]
    words += [word for key, value in chosen.flags.items() for word in ("--set", f"{key}={value}")]
    sys.stdout.flush()
    os.execv(sys.executable, words)  # noqa: S606 (no shell is wanted)


def _daemon_words() -> list[str]:
    """How Python is told to run the daemon: its module if installed, else the checkout's file."""
    from importlib.util import find_spec

    from ada_memory.settings import CHECKOUT

    if find_spec("circadian_daemon") is not None:
        return ["-m", "circadian_daemon"]
    script = CHECKOUT / "circadian_daemon.py"
    if script.is_file():
        return [str(script)]
    raise Unavailable("circadian_daemon.py is not there", hint="install the package again: `make setup`")


def post(  # noqa: PLR0913, PLR0917 (every flag is a parameter)
    ctx: typer.Context,
    text: Annotated[str | None, typer.Argument(help="What to remember; `-` reads standard input.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", help="A file of interactions, one JSON object a line; `-` for standard input."
        ),
    ] = None,
    role: Annotated[PosterRole, typer.Option(help="Who said it.")] = "user",
    session: Annotated[str | None, typer.Option(help="The conversation that it belongs to.")] = None,
    app: Annotated[str, typer.Option(help="The app that it comes from.")] = APP,
    kind: Annotated[PosterKind | None, typer.Option(help="What kind of interaction it is.")] = None,
    tag: Annotated[
        list[Tag] | None,
        typer.Option(metavar="TAG", help="no-train, no-recall or later; may be given again."),
    ] = None,
    key: Annotated[str | None, typer.Option(help="Posting twice with one key keeps it once.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Tell Ada something. When this returns, it is on disk.

    With --file every line is one interaction, {"messages": [{"role": "user", "content": "…"}]},
    and may carry session, app, kind, tags, at and key. Each line gets a key of its own,
    so that the same file can be posted again after an interruption and nothing is kept twice.

    \b
    Examples:
      ada post "My dog is called Bruno."
      ada post "The door code is 4711." --tag no-train
      git log -1 | ada post - --kind code
      ada post --file yesterday.ndjson
    """
    common = {"session": session, "app": app, "kind": kind, "tags": [str(t) for t in tag or []] or None}
    shared = {name: value for name, value in common.items() if value is not None}
    if file is not None:
        if text is not None or key is not None:
            raise typer.BadParameter("--file brings its own text and keys: leave out TEXT and --key")
        _post_file(ctx, file, shared, as_json)
        return
    body = {**shared, "messages": [{"role": role, "content": read_text(text, "text")}]}
    with daemon(ctx) as client:
        receipt = _send(client, {**body, **({"key": key} if key else {})})
    _say(receipt, as_json, "already there" if receipt.get("duplicate") else "kept")


def _say(receipt: dict[str, Any], as_json: bool, word: str) -> None:
    from rich.text import Text

    line = f"{word}: {receipt.get('id')} at position {receipt.get('position')}"
    answer(receipt, as_json, lambda: Text(line))


def _send(client: Client, body: dict[str, Any]) -> dict[str, Any]:
    fields = {name: value for name, value in body.items() if name != "messages"}
    return client.post(body["messages"], **fields)


def _post_file(ctx: typer.Context, file: Path, shared: dict[str, Any], as_json: bool) -> None:
    """Post the lines of a file in order, and say how many were new."""
    from rich.progress import Progress
    from rich.text import Text

    bodies = list(_keyed(_read_lines(file)))  # a bad line is found before the first is posted
    posted = duplicates = 0
    out = console(err=True)
    with daemon(ctx) as client, Progress(console=out, transient=True, disable=not out.is_terminal) as bar:
        task = bar.add_task("posting", total=len(bodies))
        for number, body in bodies:
            try:
                receipt = _send(client, {**shared, **body})
            except BadInput as error:
                raise type(error)(
                    f"{file}, line {number}: {error.message}",
                    hint="the lines before it are kept; mend the line and post the file again",
                ) from None
            duplicates += bool(receipt.get("duplicate"))
            posted += not receipt.get("duplicate")
            bar.advance(task)
    result = {"file": str(file), "posted": posted, "duplicates": duplicates}
    answer(result, as_json, lambda: Text(f"{posted} kept, {duplicates} already there, from {file}"))


def _read_lines(file: Path) -> list[str]:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"{file} cannot be read", hint="give a UTF-8 file of one JSON object a line"
        ) from error
    return text.split("\n")


def _keyed(lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each line's number and interaction; its key is what the line says and how often it said so before.

    Raises:
        BadInput: a line is not JSON, or has no messages.
    """
    times: Counter[str] = Counter()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            body = json.loads(line)
        except json.JSONDecodeError as error:
            raise BadInput(f"line {number} is not JSON: {error.msg}", hint="one JSON object a line") from None
        if not isinstance(body, dict) or not isinstance(body.get("messages"), list):
            example = '{"messages": [{"role": "user", "content": "…"}]}'
            raise BadInput(f"line {number} is not an interaction", hint=f"one looks like {example}")
        said = hashlib.sha256(line.strip().encode()).hexdigest()[:24]
        times[said] += 1
        yield number, {"key": f"line-{said}-{times[said]}", **body}


def ask(
    ctx: typer.Context,
    question: Annotated[str | None, typer.Argument(help="What to ask; `-` reads standard input.")] = None,
    recall: Annotated[
        bool, typer.Option("--recall/--no-recall", help="Put memories before the question.")
    ] = True,
    remember: Annotated[
        bool, typer.Option("--remember/--no-remember", help="Keep this exchange as an interaction.")
    ] = True,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest reply, in tokens.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0.0, help="0 is greedy.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Ask the model that serves. Without a question on a terminal, chat until an empty line.

    --no-recall asks the weights alone: what Ada answers then, it has learned.

    \b
    Examples:
      ada ask "What is my dog called?"
      ada ask "What is my dog called?" --no-recall --no-remember
      ada ask
    """
    sampling = {"max_tokens": max_tokens, "temperature": temperature}
    asked: dict[str, Any] = {k: v for k, v in sampling.items() if v is not None}
    asked |= {"recall": recall, "remember": remember, "app": APP}
    if question is None and sys.stdin.isatty() and not as_json:
        _chat(ctx, asked)
        return
    text = read_text("-" if question is None else question, "question")
    with daemon(ctx) as client:
        reply = client.chat(text, **asked)
    answer(reply, as_json, lambda: _reply(reply))


def _chat(ctx: typer.Context, asked: dict[str, Any]) -> None:
    """A conversation: the whole of it goes along with every turn."""
    out = console()
    out.print("Ask away; an empty line or Ctrl-D ends.", style="dim")
    messages: list[dict[str, str]] = []
    with daemon(ctx) as client:
        while True:
            try:
                said = input("you  ")
            except EOFError:
                out.print()
                return
            if not said.strip():
                return
            messages.append({"role": "user", "content": said})
            reply = client.chat(messages, **asked)
            out.print("ada ", style="bold green", end=" ")
            out.print(_reply(reply))
            messages.append({"role": "assistant", "content": _content(reply)})


def _content(reply: dict[str, Any]) -> str:
    """The assistant's words in an OpenAI-shaped reply.

    Raises:
        Unavailable: the reply has none.
    """
    try:
        return str(reply["choices"][0]["message"]["content"])
    except (KeyError, IndexError, TypeError):
        raise Unavailable("the daemon's reply holds no message", hint="`ada status` says how it is") from None


def _reply(reply: dict[str, Any]) -> Any:
    from rich.text import Text

    from ada_memory.cli.text import clean

    return Text(clean(_content(reply), lines=True))


def status(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """How Ada is, who answers, and what waits for the night.

    \b
    Examples:
      ada status
      ada status --json | jq .waiting
    """
    from ada_memory.cli import show

    with daemon(ctx) as client:
        now = client.status()
    answer(now, as_json, lambda: show.status(now))


def memories(
    ctx: typer.Context,
    query: Annotated[
        str | None, typer.Argument(help="Words to search for by meaning; without them, the newest.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    as_json: JsonFlag = False,
) -> None:
    """What Ada keeps: the newest, or those nearest to a query.

    \b
    Examples:
      ada memories
      ada memories "pets" --limit 5
    """
    from ada_memory.cli import show

    with daemon(ctx) as client:
        found = client.memories(query, limit=limit)
    answer({"memories": found}, as_json, lambda: show.memories(found))
