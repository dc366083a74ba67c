"""The Markdown of the repository, taken apart: code blocks, commands, links, anchors."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: Pages a user reads; tables that a command writes are not among them.
PAGES = sorted(
    path
    for pattern in (
        "*.md",
        "docs/**/*.md",
        "alseg/**/*.md",
        "*/README.md",
        "experiments/*/README.md",
    )
    for path in ROOT.glob(pattern)
    if "_build" not in path.parts and ".venv" not in path.parts
)
_FENCED = re.compile(r"^ *(`{3,}|~{3,})(\S*)[^\n]*\n(.*?)^ *\1 *$", re.S | re.M)
_INLINE = re.compile(r"`([^`]+)`", re.S)
_COMMAND = re.compile(r"python -m alseg\.\w+")
_LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(<?([^)\s>]+)>?\)")


def blocks(text: str, *languages: str) -> list[str]:
    """The contents of the code blocks of some languages, ``""`` being none."""
    return [code for _, language, code in _FENCED.findall(text) if language in languages]


def commands(text: str) -> Iterator[str]:
    """Every ``python -m alseg...`` with words, in blocks and in sentences, each on one line."""
    for code in blocks(text, "", "sh", "bash", "console"):
        for line in code.replace("\\\n", " ").splitlines():
            if found := _COMMAND.search(line):
                yield " ".join(line[found.start() :].split())
    for code in _INLINE.findall(_FENCED.sub("", text)):
        if _COMMAND.match(code) and not _COMMAND.fullmatch(code):
            yield " ".join(code.split())


def words_of(command: str) -> tuple[str, list[str]]:
    """The module of a command, and its words as a shell gives them."""
    _, _, module, *words = shlex.split(command, comments=True)
    return module, words


def is_open(word: str) -> bool:
    """Whether a word stands for others that the reader fills in."""
    return "…" in word or word in ("...", "WORDS", "PRESET")


def links(text: str) -> list[str]:
    """Targets of links and pictures, code left out."""
    return _LINK.findall(_INLINE.sub("", _FENCED.sub("", text)))


def anchors(text: str) -> set[str]:
    """The anchors that headings get, as GitHub makes them."""
    found: set[str] = set()
    for title in re.findall(r"^#{1,6} +(.+?) *#*$", _FENCED.sub("", text), re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        numbers = (f"{slug}-{n}" for n in range(1, 100))
        found.add(slug if slug not in found else next(n for n in numbers if n not in found))
    return found
