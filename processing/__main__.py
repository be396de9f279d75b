"""`python -m processing`: the command, if no program `processing` is on the PATH."""

import sys

from processing.cli import main

if __name__ == "__main__":
    sys.exit(main())
