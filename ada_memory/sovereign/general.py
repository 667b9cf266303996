"""The core and the exam for models that bring none: identity, refusals, skills, facts, style.

`core.txt` and `exam.txt`, written by hand, enter; `core.jsonl` and `exam.jsonl` beside them leave. Only sums
are made here. Run `python -m ada_memory.sovereign.general` after a change of either text. The exam asks
nothing that is replayed: keys, questions and sums are apart.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from itertools import product
from pathlib import Path

FOLDER = Path(__file__).with_name("general")
CORE, EXAM = FOLDER / "core.jsonl", FOLDER / "exam.jsonl"
_NAMED = {
    # how models say that they will not, in the words that are left after normalisation
    "REFUSED": "can't|cannot|can t|won't|won t|will not|not able|unable|sorry|illegal|not help",
    "REFUSES": "can't help,cannot help,can t help,illegal",
}
_SUMS = 60
_EXAM_SUMS = 40
_ASK = ("What is {}?", "{} =", "How much is {}?", "Please work out {}.")
_ONLY = "What is {}? Only the number."
Row = dict[str, object]


def core() -> list[Row]:
    """Rows as `core.jsonl` holds them: messages, kind, key."""
    rows: list[Row] = []
    for kind, key, prompt, (reply,) in _lines("core.txt", 1):
        messages = [*_asked(prompt), {"role": "assistant", "content": reply}]
        rows.append({"messages": messages, "kind": kind, "key": f"{kind}:{key}"})
    for at, (key, term, value) in enumerate(_sums()[:_SUMS]):
        messages = [*_asked(_ASK[at % len(_ASK)].format(term)), {"role": "assistant", "content": str(value)}]
        rows.append({"messages": messages, "kind": "arithmetic", "key": f"arithmetic:{key}"})
    return rows


def exam() -> list[Row]:
    """Rows as `exam.jsonl` holds them: category, key, messages, answer (any, parted by "|"), wrong."""
    rows: list[Row] = []
    for kind, key, prompt, (answer, wrong) in _lines("exam.txt", 2):
        answers = _NAMED.get(answer) or "|".join(part.strip() for part in answer.split(" / "))
        words = [word.strip() for word in _NAMED.get(wrong, wrong).split(",") if word.strip()]
        rows.append({
            "category": kind, "key": f"{kind}:{key}", "messages": _asked(prompt), "answer": answers,
            "wrong": words,
        })  # fmt: skip
    for key, term, value in _sums()[_SUMS : _SUMS + _EXAM_SUMS]:
        rows.append({
            "category": "arithmetic", "key": f"arithmetic:{key}", "messages": _asked(_ONLY.format(term)),
            "answer": str(value), "wrong": [],
        })  # fmt: skip
    return rows


def text(rows: list[Row]) -> str:
    """Rows as JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _lines(name: str, parts: int) -> Iterator[tuple[str, str, str, list[str]]]:
    """Section, key, prompt and what follows it (`parts` fields, the last may be left out)."""
    section = ""
    for line in (FOLDER / name).read_text("utf-8").splitlines():
        if not line or line.startswith("# "):
            continue
        if line.startswith("["):
            section = line.strip("[]")
            continue
        fields = [_plain(field) for field in line.split(" | ")]
        key, prompt, *rest = fields
        if not 1 <= len(rest) <= parts:
            raise ValueError(f"{name}: {line!r}")
        yield section, key, prompt, rest + [""] * (parts - len(rest))


def _plain(field: str) -> str:
    return field.strip().replace("\\n", "\n").replace("\\|", "|")


def _asked(prompt: str) -> list[dict[str, str]]:
    before, split, question = prompt.rpartition(" >> ")
    system = [{"role": "system", "content": before}] if split else []
    return [*system, {"role": "user", "content": question}]


def _sums() -> list[tuple[str, str, int]]:
    """Key, term and value of sums, differences, products and quotients that one can do in one's head."""
    found = [(f"{a}+{b}", f"{a} + {b}", a + b) for a, b in product(range(2, 60), repeat=2) if a < b]
    found += [(f"{a}-{b}", f"{a} - {b}", a - b) for a, b in product(range(5, 80), range(2, 40)) if a > b]
    found += [(f"{a}*{b}", f"{a} * {b}", a * b) for a, b in product(range(2, 13), repeat=2) if a <= b] * 8
    found += [(f"{a * b}/{a}", f"{a * b} / {a}", b) for a, b in product(range(2, 11), repeat=2)] * 4
    random.Random(20).shuffle(found)
    return list({key: (key, term, value) for key, term, value in found}.values())


def main() -> None:
    """Write both files."""
    CORE.write_text(text(core()), "utf-8")
    EXAM.write_text(text(exam()), "utf-8")


if __name__ == "__main__":
    main()
