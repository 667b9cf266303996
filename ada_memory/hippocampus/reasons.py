"""Why a memory is kept, or stays out, as people say it. A memory enters, a few words leave."""

from __future__ import annotations

from collections.abc import Mapping

from ada_memory.records import Memory

KEPT = "verbatim:"
"""Before the reason of a memory that is kept letter by letter, among the reasons of its salience."""
VERBATIM: Mapping[str, str] = {
    "code": "code",
    "command": "a command",
    "data": "data",
    "log": "a log",
    "address": "an address",
    "path": "a file or folder",
    "key": "a code or key",
    "numbers": "mostly numbers",
    "long": "a long text",
    "tool": "a tool's output",
    "document": "a document",
}
MARKS: Mapping[str, str] = {
    "wish": "a wish",
    "plan": "a plan",
    "correction": "corrects something",
    "own": "something of yours",
    "first_person": "names you",
    "names": "a name",
    "numbers": "a number",
    "dates": "a date",
    "doubt": "perhaps only of the moment",
    "question": "a question",
    "request": "a request",
    "courtesy": "a courtesy",
    "remark": "a passing remark",
    "passing": "a passing state",
}
SLIGHT = ("question", "request", "courtesy", "remark", "passing")
NEW, KNOWN = 0.5, 0.1
"""Novelty from which a memory is new, and below which it is known."""


def why(memory: Memory) -> str:
    """The route's reason and the marks of the score: "verbatim: an address", "names you, a name, new"."""
    reasons = memory.salience.reasons
    kept = [VERBATIM.get(name[len(KEPT) :], "word for word") for name in reasons if name.startswith(KEPT)]
    if memory.route == "verbatim":
        return ", ".join(["verbatim: " + (kept[0] if kept else "word for word"), *_novelty(reasons)])
    said = [words for name, words in MARKS.items() if reasons.get(name)]
    if memory.route == "ignored":
        out = [MARKS[name] for name in SLIGHT if reasons.get(name)]
        return "stayed out: " + ", ".join(out or [*said, *_novelty(reasons)] or ["says too little"])
    return ", ".join([*(said or ["a plain statement"]), *_novelty(reasons)])


def _novelty(reasons: Mapping[str, float]) -> list[str]:
    novelty = reasons.get("novelty")
    if novelty is None:
        return []
    return ["new"] if novelty >= NEW else ["known already"] if novelty < KNOWN else ["like something known"]
