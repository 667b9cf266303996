"""With this folder on PYTHONPATH, Python takes itself for one on macOS, as far as a Linux can play it.

What macOS lacks is gone before anybody asks for it, and `sys.platform` says "darwin". The workers that hold a
model stay on Linux: the libraries under torch are made for one system, and those for macOS are not here.
"""

from __future__ import annotations

import importlib
import runpy
import sys
from pathlib import Path

WITH_TORCH = {"ada_memory.service.voice", "ada_memory.hippocampus.embed_worker"}


def become_a_mac() -> None:
    """Take away what only Linux has, and the name."""
    table = runpy.run_path(str(Path(__file__).with_name("linux_only.py")))["LINUX_ONLY"]
    for name, gone in table.items():
        module = importlib.import_module(name)
        for attribute in gone:
            if hasattr(module, attribute):
                delattr(module, attribute)
    importlib.import_module("urllib.request")  # these two bring what only a real Mac has, once it is one
    importlib.import_module("sysconfig").get_config_vars()
    sys.platform = "darwin"


if not WITH_TORCH & set(sys.orig_argv):
    become_a_mac()
