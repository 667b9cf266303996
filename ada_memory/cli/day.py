"""The day's commands: start the daemon, tell it things, ask it things, look at what it keeps."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ada_memory.cli.common import JsonFlag, answer, console, daemon, options, read_text
from ada_memory.errors import AdaError, BadInput, Unavailable

if TYPE_CHECKING:
    from ada_memory.client import Client

PosterRole = Literal["user", "assistant", "tool", "thought"]
PosterKind = Literal["chat", "rag", "code"]
MemoryRoute = Literal["weights", "verbatim", "ignored"]
KEPT: tuple[MemoryRoute, ...] = ("weights", "verbatim")
MEMORY_ID = re.compile(r"m\d{6,}-\d+")
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
    and may carry session, app, kind, tags, at and key. A line that is refused is named and
    fails alone (exit code 1). Each line gets a key of its own, so that the same file can be
    posted again, mended or after an interruption, and nothing is kept twice.

    \b
    Examples:
      ada post "My dog is called Bruno."
      ada post "The door code is 4711." --tag no-train
      git log -1 | ada post - --kind code
      ada post --file yesterday.ndjson
      zcat old.ndjson.gz | ada post --file - --json | jq .errors
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
    """Post the lines of a file in order; tell which were refused, and how many were new."""
    from rich.progress import Progress
    from rich.text import Text

    from ada_memory.client import CHUNK_BYTES

    most = min(CHUNK_BYTES, options(ctx).load()[0].socket.max_body_bytes)
    errors: list[dict[str, Any]] = []
    kept = duplicates = last = 0
    out = console(err=True)
    bar = Progress(console=out, transient=True, disable=not out.is_terminal)
    with _lines(file) as (size, lines), daemon(ctx) as client, bar:
        read = bar.track(lines, total=size, description="posting")
        try:
            for outcome in client.batch(_keyed(read, shared), most):
                last = outcome["line"]
                if "error" in outcome:
                    errors.append(outcome)
                    out.print(Text(_refused(outcome)))
                else:
                    kept += not outcome["duplicate"]
                    duplicates += outcome["duplicate"]
        except AdaError as error:
            again = "post the file again: what is kept is not kept twice"
            raise type(error)(f"{file}, after line {last}: {error.message}", hint=again) from error.__cause__
    result = {"file": str(file), "kept": kept, "duplicates": duplicates, "failed": len(errors)}
    told = f"{kept} kept, {duplicates} already there, {len(errors)} refused, from {file}"
    answer({**result, "errors": errors}, as_json, lambda: Text(told))
    if errors:
        raise typer.Exit(1)


def _refused(outcome: dict[str, Any]) -> str:
    error = outcome["error"]
    hint = f" ({error['hint']})" if error.get("hint") else ""
    return f"line {outcome['line']}: {error['message']}{hint}"


@contextmanager
def _lines(file: Path) -> Iterator[tuple[int | None, Iterable[bytes]]]:
    """How many lines a file has, where that can be known, and the lines.

    Raises:
        BadInput: there is no such file, or it may not be read.
    """
    if str(file) == "-":
        yield None, sys.stdin.buffer
        return
    try:
        lines = file.open("rb")
    except OSError as error:
        raise BadInput(f"{file} cannot be read", hint="give a file of one JSON object a line") from error
    with lines:
        size = sum(1 for _ in lines) if lines.seekable() else None
        if size is not None:
            lines.seek(0)
        yield size, lines


def _keyed(lines: Iterable[bytes], shared: dict[str, Any]) -> Iterator[bytes]:
    """Each line with what the flags add, and as its key what it says and how often it said so before.

    A line that is no JSON object goes as it is: the daemon says what is wrong with it.
    """
    times: Counter[str] = Counter()
    for line in lines:
        try:
            body = json.loads(line)
            if not isinstance(body, dict):
                yield line
                continue
            said = hashlib.sha256(line.strip()).hexdigest()[:24]
            times[said] += 1
            key = {"key": f"line-{said}-{times[said]}"} if body.get("key") is None else {}
            yield json.dumps({**shared, **body, **key}).encode()
        except (ValueError, RecursionError):
            yield line


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

    --no-recall asks the weights alone: what Ada answers then, it has learned. If what lies nearest to
    the question is kept word for word (a link, a command, code), it is shown below the reply.

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
    if not as_json:
        _quote(reply)


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
            _quote(reply)
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


def _quote(reply: dict[str, Any]) -> None:
    """Show what lies nearest to the question letter by letter, if it is kept so and was not said."""
    from rich.text import Text

    from ada_memory.cli.text import clean

    nearest = next(iter(reply["ada"]["recalled"]), None)
    if nearest and nearest["route"] == "verbatim" and nearest["text"] not in _content(reply):
        said = Text(f"kept word for word, {nearest['id']}:\n", style="dim")
        said += Text(clean(nearest["text"], lines=True), style="default")
        console(err=True).print(said, soft_wrap=True)


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
        str | None,
        typer.Argument(help="Words to search for by meaning, or the id of one; without them, the newest."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    route: Annotated[
        MemoryRoute | None, typer.Option(help="Only those that went there; ignored is what stayed out.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="With what stayed out, and why.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """What Ada keeps and why: the newest, those nearest to a query, or one in full.

    What goes into the weights waits for a night; what is verbatim comes back letter by letter;
    what is ignored stayed out. `ada why ID` tells what became of one.

    \b
    Examples:
      ada memories
      ada memories "pets" --limit 5
      ada memories --all
      ada memories m000012-0
    """
    from ada_memory.cli import show

    if query and (everything or route == "ignored"):
        raise typer.BadParameter("what stayed out is not searched: leave out the words, or --all and --route")
    with daemon(ctx) as client:
        if query and MEMORY_ID.fullmatch(query):
            one = client.memory(query)
            answer(one, as_json, lambda: show.memory(one))
            return
        kept = None if query or everything else KEPT
        found = client.memories(query, limit=limit, routes=[route] if route else kept)
    answer({"memories": found}, as_json, lambda: show.memories(found))
