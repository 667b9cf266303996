"""What holds for every test: the width of the output, and one thread where several run side by side."""

from __future__ import annotations

import os

os.environ.pop("COLUMNS", None)  # as wide as into a pipe; pytest-xdist claims one of 80
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # those of several processes wait for each other, spinning
