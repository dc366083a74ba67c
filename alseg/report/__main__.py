"""The command ``python -m alseg.report``; its work is in `alseg.cli.report`."""

import sys

from alseg.cli.report import main

if __name__ == "__main__":
    sys.exit(main())
