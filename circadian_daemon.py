"""The process that people run: settings → Daemon → until told to stop (SIGTERM, or Ctrl-C).

Exit codes: 0 well, 1 an error that says what to do, 2 bad usage.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ada_memory.circadian.stages import HEAVY
from ada_memory.errors import AdaError
from ada_memory.settings import Home, Settings, home_root, load

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def main(argv: Sequence[str] | None = None, stages: str = HEAVY) -> int:
    """Run one daemon in the foreground; returns its exit code. `stages` holds its nights' heavy stages."""
    options = _options(argv)
    env = {**os.environ, **({"ADA_HOME": str(options.home)} if options.home else {})}
    _log()
    try:
        settings = load(env=env, flags=dict(options.set))
        home = Home(home_root(env), settings.mind.id)
        asyncio.run(_run(home, settings, stages))
    except AdaError as error:
        sys.stderr.write(f"error: {error.message}\n" + (f"  do:  {error.hint}\n" if error.hint else ""))
        return 1
    except OSError as error:
        if error.filename is None:
            raise
        sys.stderr.write(f"error: {error.strerror}: {error.filename}\n")
        sys.stderr.write("  do:  `ada doctor` looks at the home: who owns it, what room it has\n")
        return 1
    return 0


async def _run(home: Home, settings: Settings, stages: str) -> None:
    from ada_memory.service.daemon import Daemon

    await Daemon(home, settings, stages=stages).run()


def _log() -> None:
    """One line an event, to stderr, in UTC; nothing that anybody said is ever in it."""
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, stream=sys.stderr)
    for chatty in ("apscheduler", "uvicorn", "chromadb", "httpx", "filelock"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="circadian_daemon", description="The daemon of Ada Memory, in the foreground.",
        epilog="Settings: etc/ada.toml in the home, then ADA_SECTION__KEY, then --set.",
    )
    parser.add_argument("--home", type=lambda text: Path(text).expanduser().resolve(), metavar="FOLDER",
                        help="where etc/ and var/ lie; else $ADA_HOME, else the checkout")
    parser.add_argument("--set", action="append", default=[], type=_pair, metavar="SECTION.KEY=VALUE",
                        help="change one setting, such as sunset.at=03:00; may be given again")
    return parser.parse_args(argv)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or "." not in key:
        raise argparse.ArgumentTypeError(f"{text!r} is not section.key=value")
    return key.strip(), value


if __name__ == "__main__":
    sys.exit(main())
