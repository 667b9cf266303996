"""The morning report as a page for a person. The report's dict enters; Markdown leaves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

Report = Mapping[str, Any]
_RAMP = "_.:-=+*#%@"
_KEPT = 200


def page(report: Report) -> str:
    """`report.md`: readable as it is, and as Markdown."""
    parts = [
        [f"# The night {report['night']}", "", *_opening(report)],
        _learned(report), _superseded(report), _set_aside(report), _dreams(report),
        _exam(report), _rules(report), _training(report), _time(report),
        ["## The way back", "", report["how_to_roll_back"]],
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"


def sparkline(values: Sequence[float]) -> str:
    """A curve in one line of ASCII, from `_` (its least value) to `@` (its greatest); `?` is no number."""
    finite = [value for value in values if _is_finite(value)]
    if not finite:
        return "?" * len(values)
    low, span = min(finite), (max(finite) - min(finite)) or 1.0
    top = len(_RAMP) - 1
    return "".join(_RAMP[round((v - low) / span * top)] if _is_finite(v) else "?" for v in values)


def _opening(report: Report) -> list[str]:
    learned = len(report["learned"])
    if report["active"]:
        lead = f"Ada woke as **{report['generation']}**. She learned {_count(learned, 'memory', 'memories')}."
        if report["verdict"] == "reduced":
            lead += " The check asked for a weaker adapter; it serves at reduced strength."
    elif report["halted"]:
        stage = report["halted"]["stage"]
        serves = f"{report['parent']} keeps serving."
        lead = f"**Nothing has changed**: the night stopped at *{stage}*, and {serves}"
        if report["verdict"] == "reject":
            lead = f"**The new model was rejected**: it did not pass the check, and {serves}"
        lead += f"\n\n> {_line(report['halted']['reason'])}"
        if report["memories"]:
            lead += "\n\nThe memories of the day are kept and wait for the next night."
    else:
        why = _line(report["skipped"]["reason"]) if report["skipped"] else "nothing was to be done"
        lead = f"A quiet night: {why}. {report['parent']} keeps serving."
    return [lead]


def _learned(report: Report) -> list[str]:
    if not report["learned"]:
        return []
    lines = ["## What was learned", ""]
    for row in report["learned"]:
        lines.append(f"- {_line(row['text'])} *({_count(row['samples'], 'sample', 'samples')})*")
        lines += [f"  - {_line(question)}" for question in row["questions"]]
    return lines


def _superseded(report: Report) -> list[str]:
    if not report["superseded"]:
        return []
    lines = ["## What was corrected", ""]
    for row in report["superseded"]:
        newer = f" → {_line(row['by_text'])}" if row.get("by_text") else ""
        lines.append(f"- ~~{_line(row['text'])}~~{newer}")
    return lines


def _set_aside(report: Report) -> list[str]:
    if not report["set_aside"]:
        return []
    rows = [f"- {_line(row['text'])}: {_line(row['reason'])}" for row in report["set_aside"]]
    return ["## What was set aside, and why", "", *rows]


def _dreams(report: Report) -> list[str]:
    if report["dreams_made"] is None:
        return []
    accepted = _figure(report["dreams_accepted"])
    lines = ["## Dreams", "", f"{report['dreams_made']} dreamt, {accepted} accepted."]
    if report["lucidity"]:
        shares = ", ".join(_percent(value) for value in report["lucidity"])
        lines[-1] += f" Lucidity by REM cycle: {shares}."
    rejected = report["rejected"]
    if rejected["by_reason"]:
        lines += ["", "| rejected because | dreams |", "|---|---:|"]
        lines += [f"| {_cell(reason)} | {n} |" for reason, n in rejected["by_reason"].items()]
        lines += ["", "Some of them:", ""]
        for row in rejected["examples"]:
            lines.append(f"- “{_line(row['prompt'])}” → “{_line(row['reply'])}” ({_line(row['reason'])})")
    return lines


def _exam(report: Report) -> list[str]:
    if not report["exam"]:
        return []
    lines = ["## Exam", "", "| category | before | after | change |", "|---|---:|---:|---:|"]
    for category, row in report["exam"].items():
        before, after = row.get("before"), row.get("after")
        change = f"{100 * (after - before):+.1f}" if _is_finite(before) and _is_finite(after) else ""
        lines.append(f"| {_cell(category)} | {_percent(before)} | {_percent(after)} | {change} |")
    return lines


def _rules(report: Report) -> list[str]:
    if not report["rules"]:
        return []
    lines = [f"## The check: {report['verdict']}", ""]
    lines += ["| figure | value | limit | | why |", "|---|---:|---:|---|---|"]
    for rule in report["rules"]:
        mark = "ok" if rule.get("ok") else "**decided**" if report["verdict"] == "reject" else "**not ok**"
        values = f"{_figure(rule.get('value'))} | {_figure(rule.get('limit'))}"
        lines.append(f"| {_cell(rule.get('figure'))} | {values} | {mark} | {_cell(rule.get('why', ''))} |")
    return lines


def _training(report: Report) -> list[str]:
    loss = report["loss"]
    if not loss["steps"]:
        return []
    first, last = _figure(loss["first"]), _figure(loss["last"])
    lines = ["## Training", "", f"Loss {first} → {last} in {loss['steps']} steps."]
    train = report["figures"].get("train", {})
    if train.get("drift_last") is not None:
        lines[-1] += f" Drift of what is held to the base: {_figure(train['drift_last'])}"
        lines[-1] += f" at the end, {_figure(train['drift_max'])} at most."
    if report["core_share"] is not None:
        lines[-1] += f" {_percent(report['core_share'])} of the samples replayed the core."
    if report["samples_per_memory_min"] is not None:
        lines[-1] += f" Every memory had at least {report['samples_per_memory_min']}."
    return [*lines, "", "```", sparkline(loss["curve"]), "```"]


def _time(report: Report) -> list[str]:
    rows = [f"| {stage} | {seconds:.1f} |" for stage, seconds in report["seconds_by_stage"].items()]
    rows.append(f"| **together** | {report['seconds']:.1f} |")
    if report.get("seconds_paused"):
        rows.append(f"| *paused, not counted above* | {report['seconds_paused']:.1f} |")
    return ["## Time", "", "| stage | seconds |", "|---|---:|", *rows]


def _line(value: object) -> str:
    """Text that somebody else wrote, on one line and of bounded length."""
    text = " ".join(str(value).split())
    return text if len(text) <= _KEPT else text[: _KEPT - 1] + "…"


def _cell(value: object) -> str:
    return _line(value).replace("|", "\\|")


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _figure(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return "-" if value is None else _cell(value)


def _percent(value: object) -> str:
    return f"{100 * value:.0f}%" if isinstance(value, (int, float)) and _is_finite(value) else _figure(value)


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
