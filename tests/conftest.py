"""What holds for every test: the width of the output, and one thread where several run side by side."""

from __future__ import annotations

import os

import pytest

os.environ.pop("COLUMNS", None)  # as wide as into a pipe; pytest-xdist claims one of 80
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # those of several processes wait for each other, spinning


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: whoever begins one last keeps all others waiting."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
