"""Which lines of a text are code or data, and which are prose. A text enters, spans leave, in order.

Fences say so themselves. Elsewhere every line is looked at: lines that are neither go with their neighbours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ada_memory.hippocampus import router
from ada_memory.settings import RouterSettings

FENCE = re.compile(r"^[ \t]*(```|~~~)[^\n]*(?:\n.*?(?:^[ \t]*\1[ \t]*$|\Z)|\Z)", re.MULTILINE | re.DOTALL)
LINE = re.compile(r"[^\n]*\n|[^\n]+\Z")
PROSE = re.compile(  # two words, perhaps behind a bullet or a quotation mark
    r"^(?:[-*•>] |\d{1,2}[.)] |[\"'“‘(¿¡]+)?[^\W\d_][\w'’-]*[,:;]? (?:[^\W\d_\s]|\d|[\"'“‘(`/~])"
)
CODE_START = re.compile(
    r"^\s*(?:def |class |fn |func |import |from \w+ import|const |let |var |return\b|elif |else\b|except\b"
    r"|finally:|end$|fi$"
    r"|done$|esac$|try:|catch\b|public |private |#include|@\w|//|/\*|\*/|--\s|#!|<|\}|\]|\)|\$ |\|"
    r"|[{\[]\s*(?:[\"'{\[\d]|$))"
)
CLAUSE = re.compile(
    r"^\s*(?:SELECT|FROM|WHERE|GROUP BY|ORDER BY|HAVING|(?:LEFT |RIGHT |INNER |OUTER |CROSS )*JOIN"
    r"|INSERT INTO|VALUES|UPDATE"
    r"|SET|DELETE FROM|CREATE|ALTER|DROP|LIMIT|UNION|AND|OR|ON|WITH|RUN|COPY|CMD|ENV|WORKDIR|EXPOSE"
    r"|ENTRYPOINT)\b"
)
SYMBOLS = re.compile(r"[{}\[\]<>=;|\\$]|\w\(|\)\s*$")


@dataclass(frozen=True, slots=True)
class Span:
    """Characters from `start` to `end`; `reason` says why they are kept letter by letter, if they are."""

    start: int
    end: int
    reason: str = ""
    block: bool = False


def blocks(text: str, settings: RouterSettings) -> Iterator[Span]:
    """Blocks and the prose between them, without the white space around them."""
    at = 0
    for fence in FENCE.finditer(text):
        yield from _runs(text, at, fence.start(), settings)
        yield Span(fence.start(), fence.end(), "code", block=True)
        at = fence.end()
    yield from _runs(text, at, len(text), settings)


def _runs(text: str, start: int, end: int, settings: RouterSettings) -> Iterator[Span]:
    """Lines in a row that are solid, and lines in a row that are not."""
    lines = [(start + m.start(), start + m.end()) for m in LINE.finditer(text[start:end])]
    looks = _looks(text, lines, settings)
    run: list[tuple[int, int]] = []
    for index, line in enumerate(lines):
        if run and looks[index] != looks[index - 1]:
            yield from _span_of(text, run, looks[index - 1], settings)
            run = []
        run.append(line)
    if run:
        yield from _span_of(text, run, looks[-1], settings)


def _span_of(text: str, run: list[tuple[int, int]], solid: bool, settings: RouterSettings) -> Iterator[Span]:
    start, end = run[0][0], run[-1][1]
    piece = text[start:end]
    if not piece.strip():
        return
    start += len(piece) - len(piece.lstrip("\r\n"))
    end -= len(piece) - len(piece.rstrip())
    reason = router.solid(text[start:end], settings) if solid else ""
    yield Span(start, end, reason or ("code" if solid else ""), block=solid)


def _looks(text: str, lines: list[tuple[int, int]], settings: RouterSettings) -> list[bool]:
    """For each line, whether it belongs to a block; blank lines go with the lines before them."""
    looks: list[bool | None] = []
    for paragraph in _paragraphs(text, lines):
        whole = text[paragraph[0][0] : paragraph[-1][1]]
        if len(paragraph) > 1 and router.is_data(whole[: router.LOOKED_AT]):
            looks += [True] * len(paragraph)
        else:
            looks += _filled([_look(text[a:b], settings) for a, b in paragraph])
    return _settled(text, lines, looks)


def _filled(looks: list[bool | None]) -> list[bool | None]:
    """What stands between two lines of code without a gap is code: a docstring, say."""
    solid = [index for index, look in enumerate(looks) if look]
    for first, second in zip(solid, solid[1:], strict=False):
        if second - first <= 4:
            looks[first:second] = [True] * (second - first)
    return looks


def _paragraphs(text: str, lines: list[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Lines in a row that are not blank; each blank line by itself."""
    held: list[tuple[int, int]] = []
    for line in lines:
        if text[line[0] : line[1]].strip():
            held.append(line)
            continue
        if held:
            yield held
        held = []
        yield [line]
    if held:
        yield held


def _look(line: str, settings: RouterSettings) -> bool | None:
    """True: a line of a block. False: prose. None: blank, or either, as its neighbours say."""
    line = line[:400].rstrip()
    if not line.strip():
        return None
    if CLAUSE.match(line) or CODE_START.match(line) and (SYMBOLS.search(line) or not PROSE.match(line)):
        return True
    if PROSE.match(line):
        if _dense(line):
            return True
        return None if line.startswith(("    ", "\t")) or line.count(" ") < 2 else False
    reason = router.solid(line, settings)
    if reason in ("code", "data", "log", "command"):
        return True
    return None


def _dense(line: str) -> bool:
    """Whether a line that begins like prose is code all the same: a command, or full of symbols."""
    if router.COMMAND.match(line.strip()) or router.LOG.match(line):
        return True
    bare = re.sub(r"`[^`]*`|\S*(?:://|@)\S*", " ", line)
    return len(SYMBOLS.findall(bare)) * 12 > len(bare.split()) * 5 or line.rstrip().endswith(("{", ";"))


def _settled(text: str, lines: list[tuple[int, int]], looks: list[bool | None]) -> list[bool]:
    """Lines that may be either go with a solid neighbour; blank ones lie inside a block or after prose."""
    settled: list[bool] = []
    following: list[bool] = [False] * (len(looks) + 1)
    for index in reversed(range(len(looks))):
        look = looks[index]
        following[index] = following[index + 1] if look is None else look
    for index, look in enumerate(looks):
        if look is not None:
            settled.append(look)
            continue
        before, after = bool(settled and settled[-1]), following[index + 1]
        blank = not text[lines[index][0] : lines[index][1]].strip()
        settled.append(bool(before and after) if blank else bool(before or after))
    return settled
