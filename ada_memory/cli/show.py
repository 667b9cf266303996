"""What the daemon answers, made readable: JSON enters, something that rich can print leaves. Pure functions.

Every text that was stored goes through `clean` or `short` and is put into `Text`, never parsed as markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ada_memory.cli.text import between, clean, duration, figure, moment, short

JSON = Mapping[str, Any]
MARKS = {"done": ("✓", "green"), "skip": ("–", "yellow"), "halt": ("✗", "red")}
VERDICTS = {"activate": "green", "reduced": "yellow", "reject": "red", "halted": "red"}
HEADLINES: dict[str, tuple[str, ...]] = {
    "gather": ("memories",),
    "dream": ("dreams", "made", "cycles"),
    "verify": ("accepted", "made", "lucidity"),
    "dataset": ("new", "core", "core_share"),
    "train": ("steps", "loss", "stop_recall"),
    "merge": ("kl", "top1"),
    "map": ("exam", "kl", "recall"),
    "verdict": ("verdict",),
    "activate": ("generation",),
}
"""The figures of each stage that a person wants to see on its one line."""
LONGEST = 100
"""Characters of a memory in a list; `ada memories ID` shows all of it."""


def table(*headings: str, title: str | None = None, right: Sequence[str] = ()) -> Table:
    """A plain table in the one style of the command line."""
    made = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for heading in headings:
        made.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    return made


def facts(rows: Iterable[tuple[str, object]]) -> Table:
    """Two columns: a name, its value. Rows without a value are left out."""
    made = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows:
        if value not in (None, "", {}, []):
            made.add_row(Text(name), value if isinstance(value, Text) else Text(figure(value)))
    return made


def status(now: JSON) -> RenderableType:
    """The answer of GET /v1/status: how she is, what she waits for, then the details."""
    counts = now.get("counts") or {}
    base = str(now.get("base") or "")[:12]
    of = f" of {figure(now['capacity'])}" if now.get("capacity") else ""
    return Group(
        Text(status_sentence(now)),
        *(waiting_for(reason) for reason in now.get("waits_for") or []),
        Text(),
        facts(
            [
                ("mind", now.get("mind")),
                ("generation", now.get("generation")),
                ("model", f"{clean(now.get('model'))} ({base})" if base else now.get("model")),
                ("embedder", now.get("embedder")),
                ("waiting", f"{figure(now.get('waiting', 0))}{of}"),
                ("last slept", moment(now["last_slept"]) if now.get("last_slept") else "never"),
                ("last night", last_night(now.get("last_night") or {})),
                ("next sunset", moment(now["next_sunset"]) if now.get("next_sunset") else "no hour set"),
                *((str(name), value) for name, value in counts.items() if name != "waiting"),
                ("workers", now.get("workers")),
                ("socket", now.get("socket")),
                ("process", now.get("pid")),
                ("awake since", moment(now["started_at"]) if now.get("started_at") else None),
                ("version", now.get("version")),
            ]
        ),
    )


def status_sentence(now: JSON) -> str:
    """Who answers, and whether she sleeps."""
    generation = clean(now.get("generation") or "gen-0000")
    state = clean(now.get("state") or "awake")
    return f"Ada is {state}; {generation} answers{'' if state == 'awake' else ' meanwhile'}."


def waiting_for(reason: JSON) -> Table:
    """One thing that she waits for, or that is in the way, as a point of a list."""
    wrong = reason.get("what") not in ("night", "sunset", "held", "nothing")
    made = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
    made.add_row(
        Text("!" if wrong else "•", style="yellow" if wrong else "dim"), Text(clean(reason.get("detail")))
    )
    return made


def last_night(night: JSON) -> str:
    """`p7 brought gen-0001`, `p8 was rejected: kl = 0.9`; nothing if there was none."""
    if not night:
        return ""
    outcome = night.get("outcome")
    became = "brought" if outcome == "learned" else f"was {outcome}:"
    return short(f"{night.get('night')} {became} {night.get('reason')}", 200)


def memories(found: Sequence[JSON]) -> RenderableType:
    """The memories of GET /v1/memories, one row each: what was said, how much it matters and why."""
    if not found:
        return Text('There is no such memory yet. `ada post "…"` gives Ada one.')
    similar = any(m.get("similarity") is not None for m in found)
    headings = ("Id", "Memory", "Salience, and why", "State", *(["Similarity"] if similar else []))
    made = table(*headings, right=("Similarity",))
    made.columns[0].no_wrap = True
    made.columns[3].no_wrap = True
    for m in found:
        row = [
            clean(m.get("id")),
            short(m.get("text"), LONGEST),
            f"{_salience(m)} {clean(m.get('why'))}".strip(),
            clean(m.get("state") or "–"),
        ]
        if similar:
            row.append(f"{m['similarity']:.2f}" if m.get("similarity") is not None else "–")
        made.add_row(*map(Text, row))
    return made


def memory(m: JSON) -> RenderableType:
    """One memory in full, letter by letter, below what is known of it."""
    parts = (f"{name} {figure(value)}" for name, value in (m.get("reasons") or {}).items())
    about = [
        ("id", m.get("id")),
        ("said", f"{moment(m.get('at'))} by {clean(m.get('role'))}"),
        ("route", m.get("route")),
        ("why", m.get("why")),
        ("salience", _salience(m)),
        ("reasons", ", ".join(parts)),
        ("state", m.get("state")),
        ("tags", m.get("tags")),
    ]
    return Group(facts(about), Text(), Text(clean(m.get("text"), lines=True)))


def _salience(m: JSON) -> str:
    score = m.get("salience")
    return f"{score:.2f}" if isinstance(score, int | float) else "–"


def nights(found: Sequence[JSON]) -> RenderableType:
    """The nights of GET /v1/nights, newest first, one row each; a night without a summary is still open."""
    if not found:
        return Text("There was no night yet. `ada sleep` starts one now.")
    headings = ("Night", "Kind", "Opened", "Took", "Verdict", "Generation", "Learned")
    made = table(*headings, right=("Took", "Learned"))
    for n in found:
        end = n.get("summary") or {}
        learned = end.get("learned")
        serves = end.get("generation") or n.get("parent") or "–"
        made.add_row(
            Text(night_name(n)),
            Text(f"{clean(n.get('kind'))}{', light' if n.get('depth') == 'light' else ''}"),
            Text(moment(n.get("opened_at"))),
            Text(duration(end.get("seconds"))),
            verdict(n, end),
            Text(clean(serves)),
            Text(figure(len(learned) if isinstance(learned, list) else learned)),
        )
    return made


def night_name(answer: JSON) -> str:
    """The id of a night, however it was sent: as a string or as a record."""
    named = answer.get("night") or answer.get("id")
    return clean(named.get("id") if isinstance(named, Mapping) else named)


def verdict(night: JSON, end: JSON) -> Text:
    """The verdict in its colour; a night without one is open, halted or had nothing to learn."""
    word = clean(end.get("verdict")) or ("halted" if end.get("halted") else "")
    if not word:
        word = "nothing to learn" if night.get("finished") else "open"
    return Text(word, style=VERDICTS.get(word, ""))


def stage_name(row: JSON) -> str:
    """The name of a stage, from a journal row or an event."""
    return clean(row.get("stage") or row.get("name"))


def stage(row: JSON, seconds: float | None = None, width: int = 100) -> Text:
    """One finished stage on one line: mark, name, time, headline figures or the reason."""
    outcome = str(row.get("outcome") or "done")
    mark, style = MARKS.get(outcome, ("?", ""))
    took = between(row.get("started_at"), row.get("finished_at")) if seconds is None else seconds
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"{mark} ", style=style)
    line.append(f"{stage_name(row):<9}", style="bold")
    line.append(f"{duration(took):>13}  ", style="dim")
    says = row.get("reason") if outcome != "done" else headline(row)
    room = max(width - len(line), 20)
    line.append(short(says or headline(row), room), style="" if outcome == "done" else style)
    return line


def headline(row: JSON) -> str:
    """The few figures of a stage that a person wants to see at once."""
    figures = row.get("figures") or {}
    wanted = HEADLINES.get(stage_name(row), ())
    names = [n for n in wanted if n in figures] or [
        n for n, v in figures.items() if isinstance(v, int | float | str)
    ][:4]
    return "  ".join(f"{n} {figure(figures[n])}" for n in names)


def stages(rows: Sequence[JSON], width: int = 100) -> Group:
    """All finished stages of a night, a line each."""
    return Group(*(stage(row, width=width) for row in rows))


def figures(row: JSON) -> RenderableType:
    """Everything that one stage measured: its line, its figures, its rules."""
    found = dict(row.get("figures") or {})
    ruled = found.pop("rules", None)
    parts: list[RenderableType] = [stage(row)]
    if _paired(found.get("exam")):
        parts.append(exam(found.pop("exam")))
    parts.append(facts((str(name).replace("_", " "), value) for name, value in found.items()))
    parts += [rules(ruled)] if ruled else []
    return Group(*parts)


def _paired(found: object) -> bool:
    """Whether this is a mapping of category → {before, after}."""
    if not isinstance(found, Mapping) or not found:
        return False
    return all(isinstance(pair, Mapping) and "before" in pair for pair in found.values())


def exam(found: JSON) -> RenderableType:
    """The exam by category, before and after; a fall is red."""
    made = table("Exam", "Before", "After", "Change", right=("Before", "After", "Change"))
    for name, pair in found.items():
        before, after = pair.get("before"), pair.get("after")
        known = isinstance(before, int | float) and isinstance(after, int | float)
        change = round(after - before, 6) if known else None
        style = "" if not change else "red" if change < 0 else "green"
        made.add_row(
            Text(clean(name)),
            Text(_share(before)),
            Text(_share(after)),
            Text("–" if change is None else f"{change:+.1%}", style=style),
        )
    return made


def _share(value: object) -> str:
    return f"{value:.1%}" if isinstance(value, int | float) else "–"


def rules(found: Sequence[JSON]) -> RenderableType:
    """The verdict's rule table: what was measured, what was allowed, whether it held."""
    made = table("", "Rule", "Measured", "Limit", "Why", right=("Measured", "Limit"))
    for rule in found:
        mark, style = MARKS["done" if rule.get("ok") else "halt"]
        made.add_row(
            Text(mark, style=style),
            Text(clean(rule.get("figure")).replace("_", " ")),
            Text(figure(rule.get("value"))),
            Text(figure(rule.get("limit"))),
            Text(clean(rule.get("why"))),
        )
    return made


def dream(event: JSON, width: int = 100) -> Text:
    """One dream on one line: ✓ accepted, ✗ rejected with the reason, · not judged yet."""
    d = event.get("dream") or {}
    judged = d.get("accepted") or d.get("score") is not None or d.get("reason")
    mark, style = ("·", "dim") if not judged else MARKS["done" if d.get("accepted") else "halt"]
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"  {mark} ", style=style)
    line.append(f"{clean(d.get('kind')):<9} ", style="cyan")
    reason = short(d.get("reason") or "rejected", max(width // 3, 12))
    why = "" if d.get("accepted") or not judged else f"  ({reason})"
    room = max(width - len(line) - len(why), 16)
    line.append(
        short(f"{d.get('prompt', '')} → {d.get('reply', '')}", room), style="dim" if not judged else ""
    )
    line.append(why, style="red")
    return line
