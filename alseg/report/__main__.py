"""``python -m alseg.report RUN_DIR [RUN_DIR ...] [--out FILE]``: write the page of a run."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from alseg.core.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a report, or a comparison of several runs, and print where it lies.

    Args:
        arguments: Words of the command line; None means those of the process.

    Returns:
        Exit status: 0, or 2 after an error a user can mend.
    """
    parser = argparse.ArgumentParser(
        prog="python -m alseg.report",
        description="Write the page of a run into its folder, or one page that compares several.",
    )
    parser.add_argument("run_dirs", nargs="+", type=Path, metavar="RUN_DIR", help="a run folder")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="where the comparison of several runs goes (comparison.html)",
    )
    options = parser.parse_args(arguments)
    from alseg.report.page import write_comparison, write_report

    try:
        if len(options.run_dirs) == 1:
            if options.out:
                raise UserError(
                    "--out is for comparisons; the report of one run lies in its folder."
                )
            path = write_report(options.run_dirs[0])
        else:
            path = write_comparison(options.run_dirs, options.out or Path("comparison.html"))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
