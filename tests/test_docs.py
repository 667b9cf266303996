"""The documents keep to the program: commands, settings, routes, stages and links that they name exist."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer

from ada_memory.circadian.stages import NAMES
from ada_memory.cli.app import app
from ada_memory.cli.common import hoist
from ada_memory.cli.doctor import MARKS
from ada_memory.settings import Home, Settings

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKED = [*PAGES, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs" / "adr").glob("*.md"))]
SOURCES = sorted((ROOT / "ada_memory").rglob("*.py"))
CLI: Any = typer.main.get_command(app)
KEYS = {section: set(type(table).model_fields) for section, table in Settings()}
FILES = {"py", "md", "json", "jsonl", "csv", "toml", "log", "db", "safetensors"}
FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def text(page: Path) -> str:
    """A page as it lies in the checkout."""
    return page.read_text("utf-8")


def code(page: str) -> list[str]:
    """The lines of a page's code blocks, fenced or indented; a line that ends in a backslash goes on."""
    fenced = [line for block in FENCE.findall(page) for line in block.replace("\\\n", " ").split("\n")]
    rest = FENCE.sub("", page).replace("\\\n", " ").split("\n")
    return [*fenced, *(line for line in rest if line.startswith("    "))]


def typed(line: str) -> Iterator[list[str]]:
    """The calls of `ada` in a line that somebody may type: behind a prompt, in a pipe, before a comment."""
    lexer = shlex.shlex(line.strip().removeprefix("$ "), posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split, lexer.commenters = True, "#"
    try:
        words = list(lexer)
    except ValueError:  # an apostrophe in what a program printed
        return
    call: list[str] = []
    for word in [*words, ";"]:
        if set(word) <= set("();<>|&"):
            if call and call[0].rpartition("/")[2] == "ada":
                yield call[1:]
            call = []
        elif call or not re.fullmatch(r"[A-Z_]+=.*", word):
            call.append(word)


def understood(words: Sequence[str]) -> str:
    """The command that these words call; raises what the CLI would raise for them."""
    command, context, path = CLI, None, list[str]()
    words = hoist(words)
    while True:
        context = command.make_context("ada", list(words), parent=context)
        if not hasattr(command, "commands"):
            return " ".join(path)
        rest = [*context._protected_args, *context.args]
        name, command, words = command.resolve_command(context, rest)
        path.append(name)


def commands(group: Any = CLI, before: str = "") -> Iterator[str]:
    """Every command by its full name."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}"


CALLS = [
    pytest.param(call, id=f"{page.name}: {' '.join(call)}")
    for page in PAGES
    for line in code(text(page))
    for call in typed(line)
]


@pytest.mark.parametrize("call", CALLS)
def test_every_call_that_is_shown_can_be_typed(call: list[str]) -> None:
    try:
        understood(call)
    except typer.Exit as ended:  # --help and --version end at once
        assert not ended.exit_code


def inline(page: str) -> Iterator[list[str]]:
    """The calls of `ada` that stand in the middle of a sentence; one capital stands for any number."""
    for span in re.findall(r"`(ada [^`\n]+)`", FENCE.sub("", page)):
        yield from typed(re.sub(r"\b[A-Z]\b", "1", span))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_call_that_is_named_can_be_typed(page: Path) -> None:
    for call in inline(text(page)):
        try:
            understood(call)
        except typer.Exit as ended:
            assert not ended.exit_code


def strings(source: str) -> Iterator[str]:
    """Every text of a module as it may be printed; what is put into it stands as `x`."""
    tree = ast.parse(source)
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "x" for part in node.values]
            yield "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.value


def mends(source: str) -> Iterator[list[str]]:
    """The calls of `ada` that a module tells people to make."""
    for said in strings(source):
        yield from inline(said)
        for line in said.split("\n"):
            if line.startswith("$ "):
                yield from typed(line)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_errors_and_checks_tell_people_to_type_can_be_typed(path: Path) -> None:
    for call in mends(text(path)):
        try:
            understood(call)
        except typer.Exit as ended:
            assert not ended.exit_code


def test_mends_are_found() -> None:
    source = 'hint = f"`ada rollback {name}` goes back"\nmend = "$ ada sleep   # finishes it"\nx = "ada x"'
    assert list(mends(source)) == [["rollback", "x"], ["sleep"]]


def test_calls_are_found_and_wrong_ones_refused() -> None:
    assert len(CALLS) > 10
    line = "$ ADA_HOME=/tmp/x .venv/bin/ada ask 'Who?' --no-recall | cat && ada status # now"
    assert list(typed(line)) == [["ask", "Who?", "--no-recall"], ["status"]]
    assert understood(["config", "show", "--home", "x"]) == "config show"
    for wrong in (["dance"], ["ask", "Who?", "--loud"], ["sleep", "--until", "noon"], ["config", "shout"]):
        with pytest.raises(Exception, match=r"(?i)no such|invalid|not one of"):
            understood(wrong)


@pytest.mark.parametrize("command", list(commands()))
def test_every_command_is_in_the_documents(command: str) -> None:
    assert any(re.search(rf"\bada {command}\b", text(page)) for page in PAGES)


def named_settings(page: str) -> Iterator[tuple[str, str]]:
    """Section and key (or nothing) of every setting that a page names."""
    for pattern in (r"(?m)^\[(\w+)\]$", r"`\[(\w+)\]`"):
        yield from ((section, "") for section in re.findall(pattern, page))
    for name in re.findall(r"\bADA_([A-Z]+__[A-Z_]+)=", page):
        section, _, key = name.lower().partition("__")
        yield section, key
    yield from re.findall(r"--set[ =](\w+)\.(\w+)=", page)
    for section, key in re.findall(r"`(\w+)\.(\w+)`", page):
        if section in KEYS and key not in FILES:
            yield section, key


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_setting_that_is_named_exists(page: Path) -> None:
    unknown = {
        (section, key)
        for section, key in named_settings(text(page))
        if section not in KEYS or (key and key not in KEYS[section])
    }
    assert unknown == set()


def test_settings_are_found() -> None:
    page = "`[forge]`, `sunset.at`, ADA_MODEL__NAME=x, `ada run --set mind.id=x` and `dream.py`"
    assert set(named_settings(page)) == {("forge", ""), ("sunset", "at"), ("model", "name"), ("mind", "id")}


def anchors(page: str) -> set[str]:
    """The names of a page's headings, as links call them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text(page))):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(text(file)), target


def test_the_api_page_has_every_route_and_no_other() -> None:
    source = text(ROOT / "ada_memory" / "service" / "api.py")
    served = {"/v1/openapi.json", *re.findall(r'@app\.(?:get|post)\(\s*"([^"]+)"', source)}
    page = text(ROOT / "docs" / "api.md")
    assert {path for path in served if path not in page} == set()
    patterns = [re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path)) for path in served]
    shown = {path for p in PAGES for path in re.findall(r"http://ada(/[\w/.-]+)", text(p))}
    assert {path for path in shown if not any(re.fullmatch(pattern, path) for pattern in patterns)} == set()


def test_every_stage_is_explained() -> None:
    page = text(ROOT / "docs" / "how-it-works.md")
    assert [name for name in NAMES if f"**{name}**" not in page] == []


def test_all_that_a_home_holds_is_explained() -> None:
    home = Home(Path("home"))
    lies = [path.name for path in vars(home).values() if isinstance(path, Path)]
    lies = [name for name in lies if name not in ("home", "etc", "default")]
    assert {"journal.db", "chroma", "merged", "bases"} <= set(lies)
    for page in ("operations.md", "how-it-works.md"):
        assert [name for name in lies if name not in text(ROOT / "docs" / page)] == []


def test_the_doctor_and_its_page_speak_of_the_same_states() -> None:
    page = text(ROOT / "docs" / "operations.md")
    for state, (mark, _) in MARKS.items():
        assert f"| {mark} | {state} |" in page
