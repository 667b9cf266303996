"""The sleeper: the child process in which a night's heavy stages run, at the lowest priority.

A night's folder enters; the stages' folders and one JSON event a line on standard output leave. It never
opens the journal. It ends when its parent does: the kernel says so on Linux, standard input everywhere.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import logging
import os
import signal
import stat
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO, cast

from ada_memory.circadian.bundle import (
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
from ada_memory.sovereign.disk import plain

_PR_SET_PDEATHSIG = 1
_ORPHANED = 75  # exit status: the daemon is gone, nothing was recorded


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
            os._exit(_ORPHANED)


def main(arguments: list[str] | None = None) -> int:
    """Run the heavy stages up to `--until`; 0 once they have ended, however they ended."""
    emit = Events(_take_stdout())
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    parser = argparse.ArgumentParser(prog="ada-sleeper", description="Run the heavy stages of a night.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--until", choices=NAMES, default=NAMES[-1])
    parser.add_argument("--stages", default=HEAVY, help="module or file that holds the stage functions")
    parser.add_argument("--parent", type=int, default=0, help="pid of the daemon; end when it ends")
    options = parser.parse_args(arguments)
    _lowest_priority()
    _end_with_parent(options.parent)
    sleep(read_bundle(options.folder), cast(StageName, options.until), emit, options.stages)
    return 0


def sleep(night: NightBundle, until: StageName, emit: Events, module: str) -> None:
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


def _guarded(name: StageName, night: NightBundle, emit: Events, module: str) -> Ending:
    try:
        return run_stage(name, night, emit, module)
    except Exception as error:  # noqa: BLE001  the stage runner: whatever a stage raises halts the night
        return failure(name, error)


def _take_stdout() -> TextIO:
    """Keep the real standard output for events; whatever libraries print goes to standard error."""
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return stream


def _lowest_priority() -> None:
    os.nice(19)
    if hasattr(os, "SCHED_IDLE"):
        try:
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        except PermissionError:
            logging.getLogger(__name__).info("SCHED_IDLE is not permitted here; nice 19 it is")


def _end_with_parent(parent: int) -> None:
    if sys.platform == "linux" and parent:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the line above
            os._exit(_ORPHANED)
    mode = os.fstat(0).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        threading.Thread(target=_watch_stdin, name="parent-watch", daemon=True).start()


def _watch_stdin() -> None:
    with contextlib.suppress(OSError):  # a broken pipe is as much an end as a closed one
        while os.read(0, 4096):
            pass
    if os.getpgid(0) == os.getpid():  # workers of ours, such as data loaders, end too
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(_ORPHANED)


if __name__ == "__main__":
    raise SystemExit(main())
