"""Small words and figures: stored text, times and numbers enter, short printable strings leave."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from datetime import datetime
from typing import Any

BLOCKS = "▁▂▃▄▅▆▇█"
UNSAFE = {"Cc", "Cs", "Zl", "Zp"}
"""Unicode categories that may steer a terminal: control codes, surrogates, line separators."""
DIRECTION = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Marks that reorder the text around them."""


def clean(value: object, *, lines: bool = False) -> str:
    """Stored text that cannot steer the terminal; one line unless `lines` says that breaks may stay."""
    text = str(value if value is not None else "").replace("\r\n", "\n")
    kept = "\n\t" if lines else ""

    def safe(c: str) -> str:
        if c in kept or (unicodedata.category(c) not in UNSAFE and c not in DIRECTION):
            return c
        return " " if c.isspace() else "\N{REPLACEMENT CHARACTER}"

    return "".join(map(safe, text))


def short(value: object, width: int) -> str:
    """One line of at most `width` characters."""
    text = " ".join(clean(value).split())
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"


def moment(value: object) -> str:
    """RFC 3339 → local time to the minute; what is no time is shown as it came."""
    try:
        return datetime.fromisoformat(str(value)).astimezone().strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return clean(value) or "never"


def between(start: object, end: object) -> float | None:
    """Seconds from one RFC 3339 time to another, or None if one of them is no time."""
    try:
        return (datetime.fromisoformat(str(end)) - datetime.fromisoformat(str(start))).total_seconds()
    except (ValueError, TypeError):
        return None


def duration(seconds: object) -> str:
    """`41 s`, `3 min 05 s`, `1 h 02 min`."""
    if not isinstance(seconds, int | float) or not math.isfinite(seconds):
        return "–"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def figure(value: Any) -> str:
    """A number short enough for a table; everything else as text."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{clean(k)} {figure(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(figure(v) for v in value)
    return clean(value)


def spark(values: Sequence[float], width: int = 40) -> str:
    """A line chart in block characters, at most `width` wide; each block is the mean of its share."""
    known = [float(v) for v in values if math.isfinite(v)]
    if not known:
        return ""
    width = min(width, len(known))
    edges = [i * len(known) // width for i in range(width + 1)]
    means = [sum(known[a:b]) / (b - a) for a, b in zip(edges, edges[1:], strict=False)]
    low, high = min(means), max(means)
    span = (high - low) or 1.0
    return "".join(BLOCKS[round((v - low) / span * (len(BLOCKS) - 1))] for v in means)


def count(number: object, noun: str) -> str:
    """`1 dream`, `2 dreams`, `3 memories`."""
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{figure(number)} {noun if number == 1 else plural}"
