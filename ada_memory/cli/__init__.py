"""The command line. Flags and text enter, requests go to the daemon's socket, answers come back readable.

It stands beside the house: everything it knows of a mind it asks the daemon. Nothing heavy is
imported here (no torch, no vectors), and what costs time (httpx, rich, pydantic) only inside commands.
"""

from ada_memory.cli.app import app, main

__all__ = ["app", "main"]
