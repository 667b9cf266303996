"""`ada demo` (and `make night`): one whole day and night on a throw-away home, for a person to watch."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from ada_memory.bench import day as days
from ada_memory.bench.day import Told
from ada_memory.bench.house import House, house
from ada_memory.bench.sample_day import CAPACITY, PASTED, SAMPLE, SMALL_TALK
from ada_memory.cli.report import render
from ada_memory.cli.watch import watch
from ada_memory.errors import AdaError
from ada_memory.seedling import exam
from ada_memory.topology.exam import Question, marks, sit


def run(home: Path | None = None) -> int:
    """Show it all; 0 only if the new generation became active and recall rose."""
    console = Console(highlight=False)
    started = time.monotonic()
    asked = days.questions(SAMPLE)
    core = exam.core_exam("judge", 0)
    keep = home or Path(tempfile.mkdtemp(prefix="ada-first-night-"))
    keep.mkdir(parents=True, exist_ok=True)
    kept_back = days.keep_back(SAMPLE, keep)
    console.rule("[bold]Morning: a daemon starts")
    console.print(f"A real daemon on a throw-away home: {keep}")
    with house(keep, {"sunset.at": "", "sunset.capacity": CAPACITY, "forge.withhold": kept_back}) as ada:
        status = ada.client.status()
        console.print(
            f"awake as [bold]{status['generation']}[/], a night begins when {CAPACITY} memories wait\n"
        )
        before = _examine(console, ada, asked, core, "Before the night, with an empty context and recall off")
        _live_the_day(console, ada)
        night = _sunset(console, ada)
        console.rule("[bold]Night")
        report = watch(ada.client, night, console)
        ada.wait_night(night)
        console.rule("[bold]Morning")
        console.print(render(report))
        after = _examine(
            console, ada, asked, core, "After the night: empty context, recall off, phrasings never trained"
        )
        _recalled(console, ada)
        console.print(f"\nThe report: {ada.home.nights / night / 'report' / 'report.md'}", soft_wrap=True)
        active = ada.client.status()["generation"] != status["generation"]
    verdict = report.get("verdict") or "reject"
    console.print(
        f"MORNING recall_before={before['recall']:.2f} recall_after={after['recall']:.2f}"
        f" core_before={before['core']:.3f}"
        f" core_after={after['core']:.3f} verdict={verdict} seconds={time.monotonic() - started:.0f}",
        soft_wrap=True,
    )
    return 0 if active and after["recall"] > before["recall"] else 1


def _examine(
    console: Console, ada: House, asked: Sequence[Question], core: Sequence[Question], title: str
) -> dict[str, float]:
    """Ask over the socket, as an app would; the core exam is sat by the same model, beside the daemon."""
    console.print(f"[bold]{title}")
    right = 0
    for question in asked:
        prompt = question.messages[-1].content
        said = reply(ada, prompt)
        good = question.right(said)
        right += good
        console.print(f"  {'[green]✓' if good else '[red]✗'}[/] {escape(prompt):<42} {escape(said)}")
    engine = ada.engine()
    result = {"recall": right / len(asked), "core": marks(core, sit(engine, core))["all"]}
    console.print(
        f"  knows {right} of {len(asked)}; core exam ({len(core)} questions): {result['core']:.1%}\n"
    )
    return result


def reply(ada: House, question: str, recall: bool = False) -> str:
    """One question over the socket, greedily, remembered by nobody."""
    body = ada.client.chat(question, recall=recall, remember=False, max_tokens=24, temperature=0)
    return str(body["choices"][0]["message"]["content"])


def _live_the_day(console: Console, ada: House) -> None:
    """Post the day over the socket, as another app would."""
    console.rule("[bold]Day")
    for said in _shuffled(SAMPLE):
        ada.client.post(
            said, app="demo", session="sample-day", **({"kind": "code"} if said == PASTED else {})
        )
        console.print(f"  [dim]post[/] {escape(said.splitlines()[0])}{' …' if chr(10) in said else ''}")


def _shuffled(told: Sequence[Told]) -> list[str]:
    """The day in order: small talk and the snippet between the facts, the correction last."""
    lines = [item.text for item in told]
    for place, said in zip(range(3, 99, 5), (*SMALL_TALK, PASTED), strict=False):
        lines.insert(min(place, len(lines) - 2), said)
    return lines


def _sunset(console: Console, ada: House) -> str:
    """Wait for the capacity threshold to start the night."""
    ada.wait_encoded()
    for _ in range(600):
        status = ada.client.status()
        if status.get("night"):
            console.print(f"\n{status['waiting']} memories wait: the capacity threshold starts sunset\n")
            return str(status["night"])
        time.sleep(0.1)
    raise AdaError(f"no night began: {status['waiting']} memories wait, the threshold is {CAPACITY}")


def _recalled(console: Console, ada: House) -> None:
    """What went to the vectors instead of the weights comes back word for word."""
    found = ada.client.memories("how do I compute a rolling mean in python?", limit=1)
    if found:
        first = str(found[0]["text"]).splitlines()[0]
        console.print(f"[bold]Kept word for word, for recall[/]: {escape(first)} …")
