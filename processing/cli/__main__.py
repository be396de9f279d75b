"""`python -m processing.cli`: the command where no script of its name is on the PATH."""

import sys

from processing.cli import main

if __name__ == "__main__":
    sys.exit(main())
