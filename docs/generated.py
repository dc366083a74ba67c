"""Writes what each method can be asked into ``limits.md``, run: ``python -m docs.generated``."""

from pathlib import Path

from alseg.methods import METHODS

PAGE = Path(__file__).with_name("limits.md")
UNITS = ("pixel", "region", "patch", "image")
_ANY = {"mask", "dominant", "class", "class_set"}
_START, _END = "<!-- methods: start -->\n", "<!-- methods: end -->\n"


def table() -> str:
    """One row per method of the package, from what its class says of itself."""
    head = [
        "`method=`",
        *(f"of a{'n' * (unit[0] in 'aeiou')} {unit}" for unit in UNITS),
        "`diversity`",
        "rounds",
    ]
    lines = [f"| {' | '.join(head)} |", "| --- |" + " --- |" * (len(head) - 1)]
    for name in sorted(METHODS):
        method = METHODS.resolve(name)
        cells = [_said(method.asks.get(unit, ())) for unit in UNITS]
        cells.append("yes" if method.ranks else "")
        cells.append("planned at the start" if method.plans_rounds else "")
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def page() -> str:
    """`PAGE` as it should read."""
    before, _, rest = PAGE.read_text("utf-8").partition(_START)
    after = rest.partition(_END)[2]
    return f"{before}{_START}\n{table()}\n{_END}{after}"


def _said(answers: tuple[str, ...]) -> str:
    return "any" if set(answers) == _ANY else ", ".join(answers)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
