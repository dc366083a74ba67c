"""The command ``python -m alseg.exchange``; its work is in `alseg.cli.exchange`."""

import sys

from alseg.cli.exchange import main

if __name__ == "__main__":
    sys.exit(main())
