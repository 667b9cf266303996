"""The core that a night replays: what came with the base, and what the owner has added. Rows enter and leave.

The owner's rows lie in `core.jsonl` of the mind. Three formats are read, as JSON lines or as one JSON list:
chats (`messages`), Alpaca (`instruction`, `input`, `output`) and Dolly (`instruction`, `context`,
`response`). What the exam asks may never be replayed: an exam of what was practised proves nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from ada_memory.errors import BadInput, NotFound
from ada_memory.settings import Home
from ada_memory.sovereign.bases import Base
from ada_memory.sovereign.disk import read_lines, replace_text, to_json

KIND = "own"
"""The kind of rows that name none; kinds take turns when the core is replayed."""
LONGEST = 4_000
"""Characters of a row, all its messages together: about 1,000 tokens, which every model here can read."""
_ROLES = ("system", "user", "assistant")
_SMALL = frozenset(
    "a an and answer are at be by can did do does for from give how i in is it its many me my name no of "
    "on one only or please say short tell that the this to was what when where which who with word write yes "
    "you your".split()
)
Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class Added:
    """What became of a file's rows.

    `asked` are the prompts that were left out because the exam asks them; `empty` and `long` count rows that
    teach nothing or are longer than `LONGEST`.
    """

    file: str
    format: str
    added: int
    twice: int
    empty: int
    long: int
    asked: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Listed:
    """The core of the next night on `base`: its rows by kind, and those of the owner's by file."""

    base: str
    rows: int
    kinds: Mapping[str, int]
    files: Mapping[str, int]


def own(home: Home) -> Path:
    """The file of the owner's rows."""
    return home.mind / "core.jsonl"


def listed(home: Home, base: Base) -> Listed:
    """How many rows the core of the next night has, by kind, and what the owner added, by file."""
    rows = of(home, base)
    kinds: dict[str, int] = {}
    for row in rows:
        kinds[str(row["kind"])] = kinds.get(str(row["kind"]), 0) + 1
    files: dict[str, int] = {}
    for row in read_lines(own(home)):
        files[str(row["file"])] = files.get(str(row["file"]), 0) + 1
    return Listed(base.name, len(rows), kinds, files)


def add(home: Home, base: Base, file: Path) -> Added:
    """Take the rows of a file into the core.

    Rows stay out that are there already, that the exam asks, that are empty or too long for a night.

    Raises:
        BadInput: the file cannot be read, or a line of it is no row: all of it or nothing.
    """
    name, found = read(file)
    sizes = [_size(row) for row in found]
    rows = [row for row, size in zip(found, sizes, strict=True) if 0 < size <= LONGEST]
    with _alone(home):
        mine = read_lines(own(home))
        known = {_prompt(row) for row in [*_rows(base.core), *mine]}
        is_asked = asks(base.exam)
        kept: list[Row] = []
        asked: list[str] = []
        for row in rows:
            if is_asked(row):
                asked.append(_last_user(row))
            elif _prompt(row) not in known:
                known.add(_prompt(row))
                kept.append({**row, "file": file.name})
        if kept:
            _save(home, [*mine, *kept])
    return Added(
        file.name, name, len(kept), twice=len(rows) - len(kept) - len(asked), empty=sizes.count(0),
        long=sum(size > LONGEST for size in sizes), asked=tuple(asked),
    )  # fmt: skip


def remove(home: Home, file: str | None) -> int:
    """Take the rows of one added file out again, or all that were added; returns how many.

    Raises:
        NotFound: nothing was added by that name.
    """
    with _alone(home):
        mine = read_lines(own(home))
        kept = [row for row in mine if file is not None and row.get("file") != file]
        if len(kept) == len(mine):
            hint = "`ada core list` names the files that were added"
            raise NotFound(f"nothing was added from {file}" if file else "nothing was added", hint=hint)
        _save(home, kept)
    return len(mine) - len(kept)


def of(home: Home, base: Base) -> list[Row]:
    """The rows that a night on this base replays; of what did not come with its exam, none that it asks."""
    is_asked = asks(base.exam)
    shipped = [row for row in _rows(base.core) if _is_pair(base) or not is_asked(row)]
    return [*shipped, *(row for row in read_lines(own(home)) if not is_asked(row))]


def for_night(home: Home, base: Base, folder: Path) -> Path | None:
    """The core file of a night: the base's own, or with the owner's rows one in the night's folder."""
    if not own(home).is_file() and _is_pair(base):
        return base.core
    path = folder / "core.jsonl"
    replace_text(path, "".join(to_json(row) + "\n" for row in of(home, base)))
    return path


def read(file: Path) -> tuple[str, list[Row]]:
    """The name of a file's format and its rows as chats.

    Raises:
        BadInput: it cannot be read; names the line.
    """
    rows: list[Row] = []
    formats: set[str] = set()
    for number, row in _objects(file):
        try:
            name, chat = _chat(row)
        except ValueError as error:
            hint = "rows are chats (messages), Alpaca (instruction, output) or Dolly (instruction, response)"
            raise BadInput(f"line {number} of {file.name}: {error}", hint=hint, field="file") from None
        formats.add(name)
        rows.append(chat)
    if not rows:
        raise BadInput(f"{file.name} holds no rows", field="file")
    return "+".join(sorted(formats)), rows


def asks(exam: Path | None) -> Callable[[Mapping[str, Any]], bool]:
    """Whether a row teaches what an exam asks: the same question, or its words and its answer together."""
    questions = [(_normal(_last_user(row)), _words(_last_user(row)), _answers(row)) for row in _rows(exam)]
    whole = {question for question, _, _ in questions}

    def is_asked(row: Mapping[str, Any]) -> bool:
        prompt = _normal(_last_user(row))
        if prompt in whole:
            return True
        said = _words(_last_user(row))
        reply = f" {_normal(str(row['messages'][-1]['content']))} "
        return any(
            len(words) > 1 and words <= said and any(f" {answer} " in reply for answer in answers)
            for _, words, answers in questions
        )

    return is_asked


def _objects(file: Path) -> Iterator[tuple[int, object]]:
    """The objects of JSON lines, or of one list, each with its line (of a list: its place)."""
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        hint = "name a JSON or JSONL file"
        raise BadInput(f"{file} cannot be read: {error}", hint=hint, field="file") from error
    if text.lstrip().startswith("["):
        try:
            yield from enumerate(json.loads(text), 1)
        except ValueError as error:
            raise BadInput(f"{file.name} is no JSON list: {error}", field="file") from None
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except ValueError as error:
                raise BadInput(f"line {number} of {file.name} is not JSON: {error}", field="file") from None


def _chat(row: object) -> tuple[str, Row]:
    """The format of a row and the row as a chat of ours; ValueError says what is wrong with it."""
    if not isinstance(row, dict):
        raise ValueError("it is no JSON object")
    if "messages" in row:
        name, messages = "chat", row["messages"]
    elif "instruction" in row and "output" in row:
        name, messages = "alpaca", _turn(row, "input", "output")
    elif "instruction" in row and "response" in row:
        name, messages = "dolly", _turn(row, "context", "response")
    else:
        raise ValueError(f"unknown fields: {', '.join(sorted(map(str, row))[:6]) or 'none'}")
    made = _checked(messages)
    kind = row.get("kind") or row.get("category")
    return name, {
        "messages": made, "kind": kind if isinstance(kind, str) else KIND,
        "key": f"own:{_normal(str(made[-2]['content']))[:60]}",
    }  # fmt: skip


def _turn(row: Mapping[str, object], context: str, reply: str) -> list[dict[str, object]]:
    more = row.get(context) or ""
    if not isinstance(more, str) or not isinstance(row["instruction"], str):
        raise ValueError(f"instruction and {context} must be texts")
    asked = f"{row['instruction']}\n\n{more}" if more.strip() else row["instruction"]
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": row[reply]}]


def _checked(messages: object) -> list[dict[str, str]]:
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise ValueError("messages must be a list of {role, content}")
    for message in messages:
        role, content = message.get("role"), message.get("content")
        if role not in _ROLES:
            raise ValueError(f"the role {role!r} is none of {', '.join(_ROLES)}")
        if not isinstance(content, str):
            raise ValueError(f"a message of the {role} is no text")
    roles = [message["role"] for message in messages]
    if roles[-2:] != ["user", "assistant"]:
        raise ValueError("the last two messages must be the user's and the assistant's")
    if "system" in roles[1:]:
        raise ValueError("a system message may only come first")
    return [{"role": message["role"], "content": message["content"]} for message in messages]


def _size(row: Row) -> int:
    """Characters of a row, all its messages together; 0 if one of them says nothing."""
    messages: list[dict[str, str]] = row["messages"]  # type: ignore[assignment]
    sizes = [len(message["content"]) if message["content"].strip() else 0 for message in messages]
    return sum(sizes) if all(sizes) else 0


def _is_pair(base: Base) -> bool:
    """Whether core and exam came together, and so are apart from each other."""
    return base.core is None or base.exam is None or base.core.parent == base.exam.parent


def _rows(path: Path | None) -> list[dict[str, Any]]:
    return list(read_lines(path)) if path is not None else []


def _save(home: Home, rows: Iterable[Mapping[str, object]]) -> None:
    text = "".join(to_json(row) + "\n" for row in rows)
    if text:
        replace_text(own(home), text)
    else:
        own(home).unlink(missing_ok=True)


def _alone(home: Home) -> FileLock:
    home.mind.mkdir(parents=True, exist_ok=True)
    return FileLock(home.mind / ".core.lock", mode=0o600)


def _last_user(row: Mapping[str, Any]) -> str:
    return next((str(m["content"]) for m in reversed(row["messages"]) if m["role"] == "user"), "")


def _prompt(row: Mapping[str, Any]) -> str:
    """All that stands before the reply, normalised: two rows that ask the same are one."""
    before = [m for m in row["messages"] if m is not row["messages"][-1]]
    return _normal(" ".join(str(m["content"]) for m in before))


def _answers(row: Mapping[str, Any]) -> list[str]:
    return [normal for part in str(row["answer"]).split("|") if (normal := _normal(part))]


def _normal(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s]", " ", text.casefold()).split())


def _words(text: str) -> frozenset[str]:
    return frozenset(_normal(text).split()) - _SMALL
