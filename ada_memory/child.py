"""What every child process of the daemon needs: its own way out, and an end when its parent ends.

The daemon's pid enters (`--parent`). A child that outlived its daemon would hold a model in memory beside the
one that the next daemon loads; so it ends at once, whatever it is doing.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from typing import TextIO

ORPHANED = 75
"""Exit status of a child whose daemon is gone."""

_PR_SET_PDEATHSIG = 1
_LOOK_SECONDS = 0.5


def keep_stdout() -> TextIO:
    """The real standard output, for our own lines; whatever libraries print goes to standard error."""
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return stream


def end_with_parent(parent: int) -> None:
    """End when the process `parent` does: on Linux the kernel sees to it, elsewhere a thread that looks.

    0 means that there is no such parent: somebody runs the child by hand.
    """
    if not parent:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before we came to look
        os._exit(ORPHANED)
    threading.Thread(target=_look, args=(parent,), name="parent-watch", daemon=True).start()


def _look(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    if os.getpgid(0) == os.getpid():  # processes of ours, such as data loaders, end too
        os.killpg(0, signal.SIGKILL)
    os._exit(ORPHANED)
