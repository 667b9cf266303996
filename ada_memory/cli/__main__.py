"""`python -m ada_memory.cli` is the same as `ada`."""

import sys

from ada_memory.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
