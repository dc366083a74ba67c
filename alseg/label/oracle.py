"""``oracle=browser``: the run itself serves the page, waits, and goes on."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from alseg.core.errors import UserError
from alseg.core.images import ImageSet
from alseg.core.options import FREE
from alseg.labels.pool import LabelPool
from alseg.labels.tables import Answers, Query

if TYPE_CHECKING:
    from alseg.label.serve import Server


#: Servers of this process by run folder: one page and one link serve all rounds of a run.
SERVERS: "dict[Path, Server]" = {}


@dataclass(frozen=True)
class BrowserOracle:
    """A person, in a browser: the run serves a page, waits for the answers, and goes on by itself.

    Every answer is on the disk before the next question appears. A run that is stopped goes on with
    the same command, and asks what is still open.

    Attributes:
        annotators: Names of those who answer, each gets a link; by default the user's.
        port: Port of the page on this machine; 0 = any that is free.
        open_browser: Open the page in a browser; its link is printed in any case.
        overlap: Share of the questions that is asked twice, to see how well annotators agree.
        suggestions: Show what the model of the round before would answer; saves time, and biases
            people. Round 0 has no model.
        accept_partial: A round may be ended with fewer answers than the budget pays for.
    """

    annotators: tuple[str, ...] = field(default=(), metadata=FREE)
    port: int = field(default=0, metadata=FREE)
    open_browser: bool = field(default=True, metadata=FREE)
    overlap: float = field(default=0.0, metadata=FREE)
    suggestions: bool = field(default=False, metadata=FREE)
    accept_partial: bool = field(default=False, metadata=FREE)

    def __post_init__(self) -> None:
        if not 0 <= self.overlap <= 1:
            raise UserError(
                f"oracle.overlap is {self.overlap:g}; give a share from 0 to 1, such as 0.05."
            )
        if not 0 <= self.port < 1 << 16:
            raise UserError(f"oracle.port is {self.port}; give one up to 65535, or 0 for any.")

    def check(self, images: ImageSet) -> None:
        """Refuse where the packages that serve the page are missing."""
        from alseg.label.serve import annotator_names, check_installed

        check_installed()
        annotator_names(list(self.annotators))

    def answer(self, query: Query, pool: LabelPool, images: ImageSet, folder: Path) -> Answers:
        """Serve the questions until they are answered; see `alseg.labels.oracle.Oracle.answer`."""
        from alseg.active.ranks import is_rank_zero
        from alseg.label.desk import Desk
        from alseg.label.session import write_session
        from alseg.label.suggestions import suggest_from_run

        if (folder / "answers.csv").exists():
            raise UserError(
                f"{folder / 'answers.csv'} holds answers, which oracle=browser does not read; give "
                f"oracle=human, or move the file away."
            )
        if not is_rank_zero():
            return _follow(folder)
        session = write_session(query, pool, images, folder, self.accept_partial)
        hints = None
        if self.suggestions and query.round:
            hints = suggest_from_run(session, folder.parent)
        desk = Desk(session, self.overlap, hints)
        try:
            if not desk.finished.is_set():  # else all was answered when the run was stopped
                server = self._server(folder.parent)
                server.office.desk = desk
                print(f"Round {query.round} waits for your answers in the browser.", flush=True)
                while not desk.finished.wait(0.2):
                    pass
                server.office.message = (
                    f"Round {query.round} is answered; the run goes on. When it asks again, the "
                    f"questions appear here."
                )
                server.office.desk = None
            desk.write_work()
            return desk.answers()
        finally:
            desk.close()

    def _server(self, run_dir: Path) -> "Server":
        """The server of a run."""
        from alseg.label.serve import Server, annotator_names
        from alseg.label.server import Office

        if run_dir not in SERVERS:
            names = annotator_names(list(self.annotators))
            SERVERS[run_dir] = Server(Office(), names, port=self.port, browser=self.open_browser)
        return SERVERS[run_dir]


def _follow(folder: Path) -> Answers:
    """The answers, for the processes that serve no page: read from what the first one writes."""
    from alseg.label.board import Board
    from alseg.label.journal import read_lines
    from alseg.label.session import read_session

    while True:
        lines, _ = read_lines(folder / "answers.jsonl")
        if any(line["do"] == "finish" for line in lines):
            board = Board(read_session(folder))
            if lines[0]["digest"] == board.session.digest:
                for line in lines[1:]:
                    board.apply(line)
                return board.answers()
        time.sleep(1)
