"""The command ``python -m alseg.run``; its work is in `alseg.cli.run`."""

import sys

from alseg.cli.run import main

if __name__ == "__main__":
    sys.exit(main())
