"""A child process that outlives its daemon would hold a second model in memory: it must not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from ada_memory.child import ORPHANED
from ada_memory.settings import CHECKOUT

# The parent starts a child, says its pid once the child watches, and waits to be killed.
PARENT = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid())], stdout=subprocess.PIPE,
    process_group=0)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""
CHILD = """
import sys, time
sys.platform = {platform!r}
from ada_memory.child import end_with_parent
end_with_parent(int(sys.argv[1]))
print("watching", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("platform", "stopped"), [(sys.platform, False), ("elsewhere", False), (sys.platform, True)]
)
def test_a_child_ends_when_its_daemon_is_killed(platform: str, stopped: bool) -> None:
    """Also one that is paused: Linux sends it SIGKILL, macOS SIGHUP, as to every stopped group of orphans."""
    command = [sys.executable, "-c", PARENT, CHILD.format(platform=platform)]
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        if stopped:
            os.killpg(child, signal.SIGSTOP)
        parent.send_signal(signal.SIGKILL)
    _wait_until_gone(child)


def test_a_child_whose_daemon_is_gone_already_does_not_begin() -> None:
    gone = os.getpid() + 10**7
    code = f"from ada_memory.child import end_with_parent; end_with_parent({gone}); print('on')"
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) in ((ORPHANED, ""), (-signal.SIGKILL, ""))


def _wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if sys.platform == "linux" and _state(pid) in "ZX":  # a container may have nobody who reaps it
            return
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    raise AssertionError(f"process {pid} outlived its parent")


def _state(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"
