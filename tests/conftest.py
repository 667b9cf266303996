"""How all tests run, whatever starts them."""

from __future__ import annotations

import os

import pytest

# output is as wide as into a pipe; pytest-xdist claims a terminal of 80 columns
os.environ.pop("COLUMNS", None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: begun last, they would leave the other cores idle."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
