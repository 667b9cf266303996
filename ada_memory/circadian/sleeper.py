"""The sleeper: the child process in which a night's heavy stages run, by default at the lowest priority.

A night's folder enters; the stages' folders and one JSON event a line on standard output leave. It never
opens the journal, and ends when the daemon does.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO, cast

from ada_memory.child import ORPHANED, end_with_parent, keep_stdout
from ada_memory.circadian.bundle import (
    Emit,
    Ending,
    NightBundle,
    begin,
    failure,
    finish,
    read_bundle,
    read_result,
    stage_event,
)
from ada_memory.circadian.stages import HEAVY, NAMES, STAGES, position, run_stage
from ada_memory.records import StageName
from ada_memory.settings import Priority
from ada_memory.sovereign.disk import plain

_PRIO_DARWIN_PROCESS, _PRIO_DARWIN_BG = 4, 0x1000  # sys/resource.h; Python names them from 3.12 on


class Events:
    """The one way out: JSON lines on what was standard output when the process began."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def __call__(self, event: dict[str, object]) -> None:
        """Write one event. Without a reader there is no point in going on, and nothing must be recorded."""
        line = json.dumps(plain(event), ensure_ascii=False)
        try:
            with self._lock:
                self._stream.write(line + "\n")
                self._stream.flush()
        except BrokenPipeError:
            os._exit(ORPHANED)


def main(arguments: list[str] | None = None) -> int:
    """Run the heavy stages up to `--until`; 0 once they have ended, however they ended."""
    emit = Events(keep_stdout())
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    parser = argparse.ArgumentParser(prog="ada-sleeper", description="Run the heavy stages of a night.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--until", choices=NAMES, default=NAMES[-1])
    parser.add_argument("--stages", default=HEAVY, help="module or file that holds the stage functions")
    parser.add_argument("--parent", type=int, default=0, help="pid of the daemon; end when it ends")
    parser.add_argument("--died", type=int, default=0, help="how often a process has died of this stage")
    options = parser.parse_args(arguments)
    end_with_parent(options.parent)
    night = replace(read_bundle(options.folder), died=options.died)
    _give_way(night.settings.sunset.priority)
    sleep(night, cast(StageName, options.until), emit, options.stages)
    return 0


def sleep(night: NightBundle, until: StageName, emit: Emit, module: str) -> None:
    """Run every heavy stage that has not ended, in order, until one does not end well."""
    for stage in STAGES[: position(until) + 1]:
        if not stage.heavy:
            continue
        record = read_result(night, stage.name)
        if record is None:
            started_at = datetime.now(UTC)
            emit(stage_event(night.night, stage.name, "started"))
            begin(night, stage.name)
            ending = _guarded(stage.name, night, emit, module)
            record = finish(night, stage.name, ending, started_at, datetime.now(UTC))
            emit(stage_event(night.night, stage.name, "finished", record))
        if record.outcome != "done":
            return


def _guarded(name: StageName, night: NightBundle, emit: Emit, module: str) -> Ending:
    try:
        return run_stage(name, night, emit, module)
    except Exception as error:  # noqa: BLE001  the stage runner: whatever a stage raises halts the night
        return failure(name, error)


def _give_way(priority: Priority) -> None:
    """Stand back in the queues of processors; when idle, last of all, and at the disks too."""
    if priority == "normal":
        return
    os.nice(19)
    if priority == "low":
        return
    log = logging.getLogger(__name__)
    if hasattr(os, "SCHED_IDLE"):
        try:
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        except PermissionError:
            log.info("SCHED_IDLE is not permitted here; nice 19 it is")
    try:
        if sys.platform == "linux":
            import psutil

            psutil.Process().ionice(psutil.IOPRIO_CLASS_IDLE)
        elif sys.platform == "darwin":
            os.setpriority(_PRIO_DARWIN_PROCESS, 0, _PRIO_DARWIN_BG)
    except OSError as error:
        log.info("what it reads and writes is not put last: %s", error)


if __name__ == "__main__":
    raise SystemExit(main())
