"""Where a memory goes: into the weights, word for word into recall, or nowhere. Text enters, a route leaves.

By form alone. What must come back letter by letter (code, addresses, data, long or number-heavy text) is
kept verbatim; the model's own words never become memories that train it.
"""

from __future__ import annotations

import json
import re

from ada_memory.records import Kind, Role, Route
from ada_memory.settings import RouterSettings

URL = re.compile(r"(?:\b[a-z][a-z0-9+.-]*://|\bwww\.)\S", re.IGNORECASE)
FENCE = re.compile(r"```|~~~")
CODE = re.compile(
    "|".join((
        r"^\s*(?:def \w+ ?\(|class [A-Z]\w*[(:]|fn \w+[(<]|func \w+\(|function ?\w*\(|#!/|<!DOCTYPE)",
        r"^\s*import [\w.]+(?: as \w+|, ?[\w.]+)*;?\s*$|^\s*from [\w.]+ import \w",
        r"^\s*(?:const|let|var) \w+ ?=|^\s*(?:public|private) (?:static|void|class|final)\b|#include\b",
        r"\bSELECT\b.+\bFROM\b|\bINSERT INTO\b|\bCREATE TABLE\b",
        r"^\s*\$ \w+|^\s*</?[A-Za-z]\w*(?: [^<>]*)?>",
        r"\b(?:for|while|if) ?\(.*\) ?\{|^\s*(?:for \w+ in|while|if|else|elif|try)\b[^\n]*:\s*\n[ \t]+\S",
        r"\bfor \w+ in \w+\([^)]*\):|[{}]\s*$|\w\)?;\s*\n|\w\([^)]*\);|=> ?[{(]",
        r"\b\w+\.\w+\([^)]*\)|\b[a-z]\w*_\w+\([^)]*\)|\w ?(?:==|!=|\+=|:=) ?\w",
    )),
    re.MULTILINE,
)


def route(text: str, kind: Kind, role: Role, settings: RouterSettings) -> tuple[Route, str]:
    """A route and the reason for it, in a word or two. Salience is not looked at: the caller does that."""
    if role == "assistant":
        return ("ignored", "the model's own words") if kind == "chat" else ("verbatim", f"{kind} reply")
    if not text.strip():
        return "ignored", "empty"
    if reason := _verbatim(text, kind, settings):
        return "verbatim", reason
    return "weights", "said in words"


def _verbatim(text: str, kind: Kind, settings: RouterSettings) -> str:
    """Why a text must be kept letter by letter; empty if it need not."""
    solid = [character for character in text if not character.isspace()]
    digits = sum(character.isdigit() for character in solid)
    checks = (  # the first that holds is the reason; JSON before code, which it looks like
        ("code", kind == "code" or FENCE.search(text)),
        ("data", _is_json(text)),
        ("code", CODE.search(text)),
        ("address", URL.search(text)),
        ("long", len(text) > settings.long_chars),
        ("numbers", digits > settings.digit_share * len(solid)),
    )
    return next((reason for reason, holds in checks if holds), "")


def _is_json(text: str) -> bool:
    """Whether an object or an array of JSON stands in the text, alone or behind a few words."""
    for start in (text.find("{"), text.find("[")):
        if start < 0:
            continue
        try:
            value, _ = json.JSONDecoder().raw_decode(text[start:])
        except (json.JSONDecodeError, RecursionError):
            continue
        if value:
            return True
    return False
