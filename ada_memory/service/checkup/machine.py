"""Checks of the machine: Python, packages, SQLite, memory, limits, clock. Nothing heavy is imported."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import resource
import sqlite3
import sys
import tomllib
from pathlib import Path

from ada_memory.engines.memory import memory_limits
from ada_memory.errors import BadSetting
from ada_memory.service.checkup.finding import Case, Finding, fail, many, ok, size, warn, worst
from ada_memory.settings import CHECKOUT

OLDEST_PYTHON = (3, 11)
OLDEST_SQLITE = (3, 37, 0)  # STRICT tables
LEAST_FILES = 512
RUNTIME_BYTES = 1_500_000_000  # four processes and their libraries: 1.3 GB were seen with the seedling
ENOUGH_YEARS = 2025
SET_CLOCK = "set the clock: `sudo timedatectl set-ntp true`, or in System Settings on macOS"


def python(_: Case) -> Finding:
    """The interpreter and the system that it runs on."""
    said = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info < OLDEST_PYTHON:
        return fail(said, "install Python 3.11 or newer, then `make clean setup PYTHON=python3.12`")
    if sys.platform not in ("linux", "darwin"):
        return fail(f"{said}: only Linux and macOS are supported", "run Ada on one of these")
    return ok(said)


def packages(_: Case) -> Finding:
    """What pyproject.toml asks for is installed, in versions that it allows."""
    from packaging.requirements import Requirement

    wrong: list[Finding] = []
    wanted = [Requirement(line) for line in _requirements()]
    wanted = [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    for one in wanted:
        try:
            there = importlib.metadata.version(one.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(fail(f"{one.name} is not installed", f"$ {sys.executable} -m pip install '{one}'"))
            continue
        if not one.specifier.contains(there, prereleases=True):
            said = f"{one.name} {there} is installed, wanted is {one.specifier}"
            wrong.append(fail(said, f"$ {sys.executable} -m pip install '{one}'"))
    return worst(wrong, f"all {len(wanted)} in the versions that are asked for")


def _requirements() -> list[str]:
    """From the checkout if this is one: what an installation noted may be older than the file."""
    file = CHECKOUT / "pyproject.toml"
    if file.is_file():
        return list(tomllib.loads(file.read_text("utf-8"))["project"]["dependencies"])
    return importlib.metadata.requires("ada-memory") or []


def torch(case: Case) -> Finding:
    """Which build of torch it is, read from its files: importing it takes seconds."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return fail("torch is not installed", "$ make setup")
    text = (Path(spec.origin).parent / "version.py").read_text("utf-8")
    version, cuda = _named(text, "__version__"), _named(text, "cuda")
    said = f"torch {version}, {f'CUDA {cuda}' if cuda else 'built for the CPU'}"
    if case.settings.model.device.startswith("cuda") and not cuda:
        mend = "`make clean setup TORCH=cuda`, or set model.device to auto"
        return fail(f"{said}, but model.device is {case.settings.model.device}", mend)
    if not cuda and Path("/dev/nvidiactl").exists():
        return warn(f"{said}, but there is an NVIDIA GPU", "$ make clean setup TORCH=cuda")
    return ok(said)


def _named(text: str, name: str) -> str:
    found = re.search(rf"^{name}(?:\s*:[^=]*)?\s*=\s*['\"]([^'\"]+)['\"]", text, re.MULTILINE)
    return found.group(1) if found else ""


def sqlite(_: Case) -> Finding:
    """The SQLite that Python is linked to can do what the journal needs."""
    said = f"SQLite {sqlite3.sqlite_version}"
    mend = "use a Python that is linked to a newer SQLite: `make clean setup PYTHON=python3.12`"
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        return fail(f"{said}: the journal needs {'.'.join(map(str, OLDEST_SQLITE))}", mend)
    db = sqlite3.connect(":memory:")
    try:
        options = {row[0] for row in db.execute("PRAGMA compile_options")}
        db.execute("SELECT json_group_array(value) FROM json_each('[1]')")
    except sqlite3.Error as error:
        return fail(f"{said} without JSON: {error}", mend)
    finally:
        db.close()
    if "OMIT_WAL" in options or "THREADSAFE=0" in options:
        return fail(f"{said} was built without {'WAL' if 'OMIT_WAL' in options else 'threads'}", mend)
    return ok(f"{said} with WAL, JSON and STRICT tables")


def processors(case: Case) -> Finding:
    """How many cores there are, and how many are asked for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = case.settings.model.threads
    if wanted > cores:
        mend = "set model.threads to 0, which means all there are"
        return warn(
            f"{cores} cores, and model.threads asks for {wanted}: they would wait for one another", mend
        )
    return ok(many(cores, "core"))


def memory(case: Case) -> Finding:
    """Enough memory for a night: the model that serves, the one that learns, and the libraries."""
    from ada_memory.service.checkup.weights import base_folder, folder_size

    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    total = min([total, *memory_limits()])
    model = folder_size(base_folder(case.home, case.settings))
    need = RUNTIME_BYTES + 3 * model
    said = f"{size(total)}; a night of this model takes about {size(need)}"
    if total < need:
        mend = (
            "name a smaller model in model.name, or add memory or swap: a night may be killed for want of it"
        )
        return warn(said, mend)
    return ok(said)


def open_files(_: Case) -> Finding:
    """How many files and connections a process may have open at a time."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < LEAST_FILES:
        more = LEAST_FILES if hard == resource.RLIM_INFINITY else min(hard, 4096)
        said = f"{soft} open files at most: each connection to the socket is one"
        return warn(said, f"$ ulimit -n {more} && ada run")
    return ok("no limit" if soft == resource.RLIM_INFINITY else f"{soft} at most")


def clock(case: Case) -> Finding:
    """The clock tells a plausible year, and the time zone of sunset is known."""
    from ada_memory.circadian.hours import zone

    try:
        place = case.now.astimezone(zone(case.settings.sunset))
    except BadSetting as error:
        return fail(error.message, f"{error.hint} ({case.home.etc / 'ada.toml'})")
    said = f"{place:%Y-%m-%d %H:%M} {place.tzname()}"
    if place.year < ENOUGH_YEARS:
        return fail(f"{said}: the clock is wrong", SET_CLOCK)
    return ok(said)


def engines(case: Case) -> Finding:
    """Whether MLX is there if it is wanted, and on Linux the BLAS without which it is slow on the CPU."""
    from ada_memory.engines import blas

    wanted = case.settings.model.engine
    if importlib.util.find_spec("mlx") is None or importlib.util.find_spec("mlx_lm") is None:
        mend = "pip install 'ada-memory[mlx]', or set model.engine to auto"
        return fail("mlx is not installed, but model.engine is mlx", mend) if wanted == "mlx" else ok("peft")
    if sys.platform != "linux":
        return ok("peft and mlx")
    found = blas.find()
    if found:
        return ok(f"peft and mlx, which takes its products from {found}")
    said = "peft and mlx, which has no OpenBLAS here: on the CPU it is some ten times slower without"
    mend = "`sudo apt install libopenblas0-pthread`, or your system's openblas package"
    return warn(said, mend) if wanted == "mlx" else ok(said)
