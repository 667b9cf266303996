"""Every error that a person may meet says what to do about it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from ada_memory import errors
from ada_memory.cli.common import explain
from ada_memory.errors import AdaError, Unavailable
from ada_memory.settings import CHECKOUT

PERSONAL = {"BadSetting", "BadModel", "JournalError", "Unavailable", "Conflict", "WorkerDied"}
PROGRAMS = ("ada_memory/bench/", "ada_memory/seedling/")  # they end with their log, and speak to developers
SOURCES = [
    path
    for path in sorted((CHECKOUT / "ada_memory").rglob("*.py"))
    if not path.relative_to(CHECKOUT).as_posix().startswith(PROGRAMS)
]


def without_hint(source: str) -> Iterator[str]:
    """The errors of a module that are made without a hint, by line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in PERSONAL:
            hints = [word.value for word in node.keywords if word.arg in ("hint", None)]
            if not hints or any(isinstance(hint, ast.Constant) and not hint.value for hint in hints):
                yield f"line {node.lineno}: {ast.unparse(node)[:90]}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(CHECKOUT).as_posix())
def test_no_error_leaves_people_alone(path: Path) -> None:
    assert list(without_hint(path.read_text("utf-8"))) == []


def test_an_error_without_a_hint_would_be_seen() -> None:
    bad = 'raise Conflict("no")\nfault = JournalError(f"{x}", hint="")\nraise BadModel("no", field="x")'
    assert len(list(without_hint(bad))) == 3
    assert list(without_hint('raise Conflict("no", hint="yes")\nraise BadSetting(x, hint=h)')) == []
    assert PERSONAL <= set(vars(errors))


def test_explaining_says_what_why_and_what_to_do() -> None:
    try:
        raise AdaError("it broke", hint="mend it") from OSError("the disk is full")
    except AdaError as error:
        assert explain(error) == "error: it broke\n  why: the disk is full\n  do:  mend it"
    assert "`ada run`" in explain(Unavailable("nobody answers"))
