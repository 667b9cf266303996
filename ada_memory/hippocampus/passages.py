"""A message cut into what may each be a memory of its own. A text enters, passages leave, in order.

Nothing is lost: put together again, the passages are the text, up to white space where they meet. What must
come back letter by letter keeps what it takes to be found by a question: the sentence around an address, the
line that introduces a block of code. Plain sentences stay together, for the night reads whole messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ada_memory.hippocampus import language, router
from ada_memory.hippocampus.blocks import SYMBOLS, Span, blocks
from ada_memory.hippocampus.salience import FRAGMENT, importance_of
from ada_memory.records import Kind, Role, Route
from ada_memory.settings import RouterSettings

CROWD = 100
"""Characters for each passage at least, beyond the first hundred: a message is not a thousand memories."""
PASSAGE = 1_000
"""Most characters of a passage of prose: what the embedder sees of a text is not much longer."""
BLOCK = 4_000
"""Most characters of code or data that stay whole."""
LOOKED_THROUGH = 200_000
"""Characters beyond which a text is cut without a look at what is in it."""
THIN = 3
"""Words below which a sentence around an address says too little to be found by a question."""

CALLED = (
    ("Dockerfile", re.compile(r"^(?:FROM|RUN|ENTRYPOINT) \S", re.MULTILINE)),
    ("SQL query", re.compile(r"\bselect\b.+\bfrom\b|\binsert into\b|^update \w+ set\b", re.I | re.S)),
    ("error log", router.LOG),
    ("web page", re.compile(r"^\s*<(?:!DOCTYPE|html|div|form|body|table|head)\b", re.I)),
    ("XML", re.compile(r"^\s*<[\w?]")),
    ("JSON data", re.compile(r"^\s*[{\[]\s*[\"{\[]")),
    ("settings", re.compile(r"^\[{1,2}[\w.-]+\]{1,2}[ \t]*$|^[A-Z][A-Z0-9_]+=\S", re.MULTILINE)),
    ("YAML configuration", re.compile(r"^[ \t]*(?:- )?[\w-]+:(?: .+)?\n +(?:- )?[\w-]+:", re.MULTILINE)),
    ("table", re.compile(r"\A(?:[^\n,;\t|]+[,;\t|]){1,}[^\n]*\n(?:[^\n,;\t|]*[,;\t|]){1,}")),
    ("shell command", router.COMMAND),
)
"""What people call code and data of a form."""
WORDS = re.compile(r"[^\W_]+(?:['’][^\W_]+)?(?:[.?!,:](?=\s|$))?")
AFTER = re.compile(r"^(?:it|that|this|these|those|they|here|there)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Passage:
    """One stretch of a message, with its route and the reason for it."""

    text: str
    route: Route
    reason: str


def passages(text: str, kind: Kind, role: Role, settings: RouterSettings) -> list[Passage]:
    """Cut a message; [] if it is blank or the model's own words.

    A message that is one passage and kept letter by letter stays as it came, white space included.
    """
    where, reason = router.route(text, kind, role, settings)
    if where == "ignored":
        return []
    if where == "weights":
        return [Passage(text.strip(), where, reason)]
    spans = _packed(
        [piece for span in _spans(text, kind, role, reason, settings) for piece in _pieces(text, span)],
        len(text) // CROWD + CROWD,
    )
    if len(spans) == 1 and spans[0].reason:
        return [Passage(text, "verbatim", spans[0].reason)]
    return [
        Passage(text[span.start : span.end].strip("\r\n"), "verbatim", span.reason)
        if span.reason
        else Passage(text[span.start : span.end].strip(), "weights", "said in words")
        for span in spans
    ]


def to_embed(text: str) -> str:
    """What of a memory is embedded: its words, also those inside addresses, paths and identifiers.

    Before code and data stands what people call them, for that is how they are asked for. Prose passes
    through as it is. The memory itself is never changed.
    """
    if not any(found.search(text) for found in (SYMBOLS, router.ADDRESS, router.PATH)):
        return text
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text)
    words = " ".join(WORDS.findall(spaced)) or text
    called = [name for name, form in CALLED if form.search(text[: router.LOOKED_AT])]
    return f"{called[0]}: {words}" if called else words


def _spans(text: str, kind: Kind, role: Role, reason: str, settings: RouterSettings) -> list[Span]:
    """The whole text if it is of one piece, else its blocks and what stands between them."""
    if len(text) > LOOKED_THROUGH:
        return [Span(0, len(text), "long")]
    document = router.is_json(text)
    if len(text) <= BLOCK and (document or kind == "code" or role in ("assistant", "tool")):
        return [Span(0, len(text), "data" if document else reason)]
    found = list(blocks(text, settings))
    if kind == "code" or role in ("assistant", "tool"):
        return [replace(span, reason=span.reason or reason) for span in found]
    if sum(span.end - span.start for span in found if not span.block) > settings.long_chars:
        return _introduced(text, [span if span.block else replace(span, reason="long") for span in found])
    parts: list[Span] = []
    for span in found:
        parts += [span] if span.block else list(_said(text, span, settings))
    return _joined(text, _introduced(text, parts))


# ---- prose: sentences that hold something exact, and plain ones ---------------------------------


def _said(text: str, span: Span, settings: RouterSettings) -> Iterator[Span]:
    for start, end in language.sentences(text[span.start : span.end]):
        piece = text[span.start + start : span.start + end]
        yield Span(span.start + start, span.start + end, router.solid(piece, settings))


def _introduced(text: str, parts: list[Span]) -> list[Span]:
    """Give each block the sentence that leads to it."""
    made: list[Span] = []
    for each in parts:
        part = each
        if part.block and made and not made[-1].block and _leads(text, made[-1], part):
            before = made.pop()
            start = before.end - len(_last_sentence(text, before))
            if text[before.start : start].strip():
                made.append(replace(before, end=before.start + len(text[before.start : start].rstrip())))
            part = replace(part, start=start)
        made.append(part)
    return made


def _leads(text: str, before: Span, block: Span) -> bool:
    gap = text[before.end : block.start]
    last = _last_sentence(text, before)
    return len(last) <= PASSAGE and (gap.count("\n") <= 1 or last.rstrip().endswith((":", "?", "：")))


def _last_sentence(text: str, span: Span) -> str:
    piece = text[span.start : span.end]
    start, _ = language.sentences(piece)[-1]
    return piece[start:]


def _joined(text: str, parts: list[Span]) -> list[Span]:
    """Join plain sentences in a row, and a thin one around an address with the sentence it needs."""
    made: list[Span] = []
    for part in parts:
        last = made[-1] if made else None
        if last is None or part.block or last.block:
            made.append(part)
        elif not part.reason and not last.reason:
            made[-1] = replace(last, end=part.end)
        elif part.reason and not last.reason and _needs(text, last, part):
            start = last.end - len(_last_sentence(text, last))
            made.pop()
            if text[last.start : start].strip():
                made.append(replace(last, end=last.start + len(text[last.start : start].rstrip())))
            made.append(replace(part, start=start))
        elif last.reason and not part.reason and _bare(text, last) and AFTER.match(text[part.start :]):
            made[-1] = replace(last, end=part.end)
        else:
            made.append(part)
    return made


def _needs(text: str, before: Span, part: Span) -> bool:
    """Whether a sentence with something exact in it can only be found with the one before."""
    if text[before.end : part.start].count("\n") > 1:
        return False
    last = _last_sentence(text, before)
    if last.rstrip().endswith((":", "：")):
        return True
    if importance_of(last)[0] <= FRAGMENT and not last.rstrip().endswith("?"):
        return False
    return bool(AFTER.match(text[part.start : part.end])) or _bare(text, part)


def _bare(text: str, part: Span) -> bool:
    rest = router.ADDRESS.sub(" ", re.sub(r"\S*(?:://|@|/)\S*|`[^`]*`", " ", text[part.start : part.end]))
    return len(language.WORD.findall(rest)) < THIN


# ---- long texts ---------------------------------------------------------------------------------


def _pieces(text: str, span: Span) -> Iterator[Span]:
    """Cut a span that is too long at the ends of paragraphs, else lines, sentences, words."""
    most = BLOCK if span.block or span.reason in ("data", "code", "log") else PASSAGE
    start = span.start
    while span.end - start > most:
        end = start + _cut(text[start : start + most])
        yield replace(span, start=start, end=end)
        start = end
        while start < span.end and text[start] in "\r\n":
            start += 1
    if text[start : span.end].strip():
        yield replace(span, start=start)


def _packed(spans: list[Span], most: int) -> list[Span]:
    """If a text falls into too many pieces, neighbours share a passage."""
    if len(spans) <= most:
        return spans
    made: list[Span] = []
    for span in spans:
        if made and span.end - made[-1].start <= PASSAGE:
            made[-1] = replace(made[-1], end=span.end, reason=made[-1].reason or span.reason or "long")
        else:
            made.append(span)
    return [replace(span, reason=span.reason or "long") for span in made]


def _cut(window: str) -> int:
    """Where to cut a window that is full: as late as may be, but between paragraphs if they allow it."""
    for end, least in (("\n\n", 0.3), ("\n", 0.2), (". ", 0.3), (" ", 0.1)):
        at = window.rfind(end)
        if at > least * len(window):
            return at + (1 if end == ". " else len(end))
    return len(window)
