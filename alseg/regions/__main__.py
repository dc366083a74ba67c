"""The command ``python -m alseg.regions``; its work is in `alseg.cli.regions`."""

import sys

from alseg.cli.regions import main

if __name__ == "__main__":
    sys.exit(main())
