"""The doctor: looks at everything that can be wrong and changes nothing. A case enters, findings leave.

While a daemon is awake the journal is its own: it runs the checks of it (`of_mind`, at `GET /v1/checkup`) and
the doctor takes its word. Else the doctor reads the journal by itself, without a lock and without a trace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from ada_memory.errors import AdaError
from ada_memory.service.checkup import house, machine, mind, wake, weights
from ada_memory.service.checkup.finding import Case, Finding, Mind, guarded, skipped
from ada_memory.service.checkup.reading import index_rows, read_only

CHECKS: Mapping[str, Callable[[Case], Finding]] = {
    "python": machine.python,
    "packages": machine.packages,
    "torch": machine.torch,
    "sqlite": machine.sqlite,
    "engines": machine.engines,
    "cores": machine.processors,
    "memory": machine.memory,
    "open files": machine.open_files,
    "clock": machine.clock,
    "settings": house.settings,
    "home": house.home,
    "file system": house.filesystem,
    "disk": house.disk,
    "leftovers": house.leftovers,
    "logs": house.logs,
    "backup": house.backup,
    "program": wake.program,
    "service": house.service,
    "socket": wake.door,
    "daemon": wake.daemon,
    "voice": wake.voice,
    "embed": wake.embed,
    "embedder": weights.embedder,
    "base": weights.base,
    "generations": weights.lineage,
    "keys": weights.keys,
    "pointer": weights.pointer,
    "merged": weights.merged,
}
OF_MIND: Mapping[str, Callable[[Mind], Finding]] = {
    "journal": mind.journal,
    "integrity": mind.integrity,
    "last stamp": mind.moment,
    "encoding": mind.encoding,
    "vectors": mind.vectors,
    "index": mind.index,
    "nights": mind.nights,
    "sleep": mind.sleep,
    "ledger": mind.settled,
}


def examine(case: Case, told: Mapping[str, Finding] | None = None) -> Iterator[tuple[str, Finding]]:
    """Every check by its name, as it is done. `told` is what the daemon found of its journal."""
    for name, check in CHECKS.items():
        yield name, guarded(partial(check, case))
    yield from _mind(case, told)


def of_mind(mind: Mind) -> dict[str, Finding]:
    """The checks of a journal that is open for reading."""
    return {name: guarded(partial(check, mind)) for name, check in OF_MIND.items()}


def _mind(case: Case, told: Mapping[str, Finding] | None) -> Iterator[tuple[str, Finding]]:
    home = case.home
    if told is not None:
        yield from told.items()
    elif wake.is_held(home.journal.with_name(f"{home.journal.name}.lock")):
        mend = "see what is said of the daemon; when it has stopped, the journal can be read"
        yield "journal", skipped("the daemon holds it and did not say how it is", mend)
    elif not home.journal.is_file():
        yield "journal", skipped(f"{home.journal} is not there yet")
    else:
        yield from _opened(case).items()


def _opened(case: Case) -> Mapping[str, Finding]:
    """The doctor's own reading of a journal that nobody holds."""
    home = case.home
    made: dict[str, Finding] = {}

    def read() -> Finding:
        embedder = guarded_text(lambda: weights.embedder_now(case.settings))
        with read_only(home.journal) as db:
            made.update(
                of_mind(
                    Mind(
                        db,
                        home.journal,
                        home,
                        case.settings,
                        embedder,
                        lambda: index_rows(home.chroma, embedder),
                        case.now,
                        case.deep,
                    )
                )
            )
        return made["journal"]

    opened = guarded(read)
    return made or {"journal": opened}


def guarded_text(find: Callable[[], str]) -> str:
    """What is found, or nothing if it cannot be: another check says why."""
    try:
        return find()
    except AdaError:
        return ""


__all__ = ["CHECKS", "OF_MIND", "Case", "Finding", "Mind", "examine", "of_mind"]
