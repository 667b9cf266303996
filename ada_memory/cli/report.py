"""The morning: a night's report.json enters, what a person wants to read of it leaves. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.text import Text

from ada_memory.cli.show import JSON, exam, facts, night_name, rules, table
from ada_memory.cli.text import clean, count, duration, figure, moment, spark


def refused(report: JSON) -> bool:
    """Whether the night ended without a new generation because something was wrong."""
    return report.get("verdict") == "reject" or bool(report.get("halted"))


def active(report: JSON) -> bool:
    """Whether the night's new generation serves."""
    changed = report.get("generation") and report.get("generation") != report.get("parent")
    return not refused(report) and bool(report.get("active", changed))


def title(report: JSON) -> Text:
    """One line: which night, and who serves now."""
    parent = clean(report.get("parent") or "the parent")
    line = Text(f"Night {night_name(report)}", style="bold")
    light = ", light" if report.get("depth") == "light" else ""
    line.append(f"  {clean(report.get('kind'))}{light}, {moment(report.get('opened_at'))}  ", style="dim")
    if active(report):
        line.append(f"{clean(report.get('generation'))} serves", style="green")
    elif refused(report):
        word = "rejected" if report.get("verdict") == "reject" else "halted"
        line.append(f"{word}: {parent} keeps serving", style="red")
    else:
        line.append(f"a quiet night: {parent} keeps serving", style="yellow")
    return line


def summary(report: JSON) -> str:
    """The night in one paragraph."""
    said = [_outcome(report)]
    if report.get("dreams_made"):
        accepted = figure(report.get("dreams_accepted"))
        said.append(f"{accepted} of {count(report['dreams_made'], 'dream')} were accepted")
    aside = len(report.get("set_aside") or [])
    if aside:
        said.append(f"{count(aside, 'memory')} {'was' if aside == 1 else 'were'} set aside")
    before, after = (_mean(report.get("exam") or {}, side) for side in ("before", "after"))
    if before is not None and after is not None:
        said.append(f"The exam stood at {before:.1%} before and {after:.1%} after")
    return ". ".join(said) + "."


def _outcome(report: JSON) -> str:
    """The first sentence: what became of the night."""
    parent = clean(report.get("parent") or "the parent")
    slept = f"Ada slept for {duration(report.get('seconds'))}"
    if active(report):
        learned = count(len(report.get("learned") or []), "memory")
        weaker = ", at reduced strength" if report.get("verdict") == "reduced" else ""
        return f"{slept} and learned {learned}; {clean(report.get('generation'))} answers now{weaker}"
    if refused(report):
        halted = report.get("halted") or {}
        word = "the new model was rejected" if report.get("verdict") == "reject" else "the night halted"
        at = f" at {clean(halted['stage'])}" if halted.get("stage") else ""
        why = clean(halted.get("reason") or "a rule did not hold").rstrip(".")
        return f"{slept}, but {word}{at}: {why}. {parent} keeps serving, and the memories go on waiting"
    why = clean((report.get("skipped") or {}).get("reason") or "nothing was to be learned").rstrip(".")
    return f"{slept}, a quiet night: {why}. {parent} keeps serving"


def _mean(found: JSON, side: str) -> float | None:
    """The exam as a whole: the mean of its categories, by items where their number is known."""
    rows = [
        row for row in found.values() if isinstance(row, Mapping) and isinstance(row.get(side), int | float)
    ]
    weights = [float(row.get("n") or 1) for row in rows]
    return sum(w * row[side] for w, row in zip(weights, rows, strict=True)) / sum(weights) if rows else None


def render(report: JSON, folder: str = "") -> RenderableType:
    """The whole report; `folder` is where its files lie."""
    parts: list[RenderableType] = [title(report), Text(), Text(summary(report)), Text()]
    parts += [
        part
        for part in (_learned(report), _set_aside(report), _superseded(report), _rejected(report))
        if part
    ]
    parts += [exam(report["exam"])] if report.get("exam") else []
    broken = [rule for rule in report.get("rules") or [] if not rule.get("ok")]
    parts += [rules(broken)] if broken else []
    parts.append(_details(report, folder))
    return Group(*parts)


def _learned(report: JSON) -> RenderableType | None:
    """Each memory that was learned, with some questions that taught it."""
    rows = report.get("learned") or []
    if not rows:
        return None
    made = table("Learned", "Asked in training", "Samples", right=("Samples",))
    for row in rows:
        known = "\n".join(clean(line) for line in row.get("questions") or row.get("claims") or [])
        made.add_row(Text(clean(row.get("text"))), Text(known), Text(figure(row.get("samples"))))
    return made


def _set_aside(report: JSON) -> RenderableType | None:
    rows = report.get("set_aside") or []
    if not rows:
        return None
    made = table("Set aside", "Why")
    for row in rows:
        why = Text(clean(row.get("reason")), style="yellow")
        made.add_row(Text(clean(row.get("text") or row.get("memory"))), why)
    return made


def _superseded(report: JSON) -> RenderableType | None:
    rows = report.get("superseded") or []
    if not rows:
        return None
    made = table("No longer true", "Because of", "Why")
    for row in rows:
        cells = (row.get("text") or row.get("memory"), row.get("by_text") or row.get("by"), row.get("reason"))
        made.add_row(*(Text(clean(cell)) for cell in cells))
    return made


def _rejected(report: JSON) -> RenderableType | None:
    """Rejected dreams: how many for each reason, then some examples."""
    found = report.get("rejected") or {}
    if not found.get("by_reason"):
        return None
    made = table("Rejected dreams", "Why")
    for reason, number in found["by_reason"].items():
        made.add_row(Text(count(number, "dream")), Text(clean(reason), style="red"))
    for d in found.get("examples") or []:
        shown = Text(f"{clean(d.get('prompt'))} → {clean(d.get('reply'))}", style="dim")
        made.add_row(shown, Text(clean(d.get("reason")), style="dim"))
    return made


def _details(report: JSON, folder: str) -> RenderableType:
    lucidity = [share for share in report.get("lucidity") or [] if isinstance(share, int | float)]
    by_stage = report.get("seconds_by_stage") or {}
    share, samples = report.get("core_share"), report.get("samples_per_memory_min")
    return facts(
        [
            ("loss", _curve(report.get("loss") or {})),
            ("drift", _drift(report.get("figures") or {})),
            ("lucidity", "  ".join(f"{share:.0%}" for share in lucidity)),
            ("samples a memory", None if samples is None else f"at least {figure(samples)}"),
            ("core replayed", f"{share:.0%}" if isinstance(share, int | float) else None),
            ("time", "  ".join(f"{clean(name)} {duration(value)}" for name, value in by_stage.items())),
            ("paused", duration(report["seconds_paused"]) if report.get("seconds_paused") else None),
            ("generation", report.get("generation")),
            ("parent", report.get("parent")),
            ("take it back", report.get("how_to_roll_back")),
            ("report", folder),
        ]
    )


def _drift(figures: JSON) -> str:
    """How far the states of what is held were from the base's: |own - base|² / |base|² (see `TrainPlan`)."""
    train = figures.get("train") or {}
    last, most = train.get("drift_last"), train.get("drift_max")
    return "" if last is None else f"{figure(last)} at the end, {figure(most)} at most"


def _curve(loss: JSON) -> str:
    """The training loss as a line of blocks between its first and its last value (nats a token)."""
    if not loss.get("steps"):
        return ""
    drawn = spark(loss.get("curve") or [])
    return f"{figure(loss.get('first'))} {drawn} {figure(loss.get('last'))} in {count(loss['steps'], 'step')}"
