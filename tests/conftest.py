"""Output is as wide as into a pipe, whatever terminal runs the tests (pytest-xdist claims one of 80)."""

from __future__ import annotations

import os

os.environ.pop("COLUMNS", None)
