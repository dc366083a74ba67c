"""The command ``python -m alseg.convert``; its work is in `alseg.cli.convert`."""

import sys

from alseg.cli.convert import main

if __name__ == "__main__":
    sys.exit(main())
