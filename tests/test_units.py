"""The units for systemd and launchd can be read, and start the daemon that is in the checkout."""

from __future__ import annotations

import configparser
import plistlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ada_memory.settings import CHECKOUT

SERVICE = CHECKOUT / "systemd" / "ada-memory.service"
PLIST = CHECKOUT / "launchd" / "org.ada-memory.daemon.plist"
HERE = "%h/ada-memory"


def _service() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(SERVICE.read_text("utf-8"))
    return parser


def test_the_unit_starts_the_daemon() -> None:
    unit = _service()
    assert unit.sections() == ["Unit", "Service", "Install"]
    python, script = unit["Service"]["ExecStart"].split()
    assert python == f"{HERE}/.venv/bin/python"
    assert (CHECKOUT / Path(script).relative_to(HERE)).is_file()


def test_the_unit_leaves_out_what_breaks_the_model_libraries() -> None:
    service = _service()["Service"]
    assert "MemoryDenyWriteExecute" not in service
    assert "ProcSubset" not in service
    assert service["SystemCallFilter"] == "@system-service"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    unit = tmp_path / SERVICE.name
    unit.write_text(SERVICE.read_text("utf-8").replace(HERE, str(tmp_path)), "utf-8")
    # It exits 0 on keys it does not know: what it says is what counts.
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True)
    said = [line for line in done.stderr.splitlines() if SERVICE.stem in line]
    assert (done.returncode, said) == (0, [])


def test_the_agent_starts_the_daemon() -> None:
    agent = plistlib.loads(PLIST.read_bytes())
    assert agent["Label"] == PLIST.stem
    shell, flag, command = agent["ProgramArguments"]
    assert (shell, flag) == ("/bin/sh", "-c")
    assert "exec .venv/bin/python circadian_daemon.py" in command
    assert subprocess.run([shell, "-n", flag, command]).returncode == 0
    assert (CHECKOUT / "circadian_daemon.py").is_file()
    assert agent["Umask"] == 0o077


def test_the_agent_comes_back_only_after_a_crash() -> None:
    assert plistlib.loads(PLIST.read_bytes())["KeepAlive"] == {"SuccessfulExit": False}
    assert _service()["Service"]["Restart"] == "on-failure"
