"""What a run is made of."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from lightning.pytorch.loggers import Logger
from numpy.typing import NDArray

from alseg.acquisition.diversity import Diversity
from alseg.active.context import RoundContext
from alseg.active.ledger import Ledger
from alseg.active.method import Method, check_question
from alseg.active.module import LoopDataModule
from alseg.active.ranks import is_rank_zero
from alseg.core.errors import UserError
from alseg.core.images import DataSplits, WithoutTruth
from alseg.labels.human import waiting_answers
from alseg.labels.oracle import Oracle
from alseg.labels.pool import LabelPool
from alseg.labels.tables import Answers, Query, UnitKind
from alseg.nn.network import Network

log = logging.getLogger(__name__)


class Observer(Protocol):
    """Is told what happened; draws pictures, writes pages, sends numbers elsewhere."""

    def waiting(self, query: Query, pool: LabelPool, folder: Path) -> None:
        """A person has to answer the query."""
        ...

    def round_closed(self, round: int, pool: LabelPool, rows: Sequence[Mapping[str, Any]]) -> None:
        """A round is evaluated; ``rows`` are those of ``rounds.csv`` so far."""
        ...


@dataclass
class Run:
    """Everything a run is made of; `alseg.active.driver.drive` sets it in motion.

    Attributes:
        method: How to train, score and pick.
        splits: Pool and validation images.
        datamodule: Serves them, see `alseg.data.datamodule.ActiveDataModule`.
        pool: Empty; filled by replaying the folder.
        regions: Version of the maps whose regions are asked about, or `PIXELS`.
        kind: What one region of these maps is.
        oracle: Answers.
        network: Builds segmentation networks.
        root: The run folder.
        rounds: Rounds to train.
        seed: Decides everything random.
        trainer: Makes the keyword arguments of one `lightning.Trainer` from those a stage needs.
        channels_last: Networks keep the channels of a pixel side by side.
        compile: Networks are compiled while they are trained, see `alseg.active.compiled`.
        loggers: Loggers besides CSV.
        observers: See `Observer`.
        replay: Folder of another run whose purchases are repeated instead of choosing.
        listed: Images that get masks in round 0, given by the user, instead of choosing.
        keep_rounds: Rounds whose checkpoints stay, the last ones; None = all.
        cache: Folder that runs share; None = one inside the run folder.
        changed: What to do where a person has changed answers that were taken: ``tell`` and go on,
            ``recompute`` from that round on, or ``keep`` what was taken and tell it no more.
        untaken: Answers of the folder of a round that were given and not taken yet.
    """

    method: Method
    splits: DataSplits
    datamodule: LoopDataModule
    pool: LabelPool
    regions: str
    kind: UnitKind
    oracle: Oracle
    network: Network
    root: Path
    rounds: int
    seed: int
    trainer: Callable[[Mapping[str, Any]], dict[str, Any]]
    channels_last: bool = False
    compile: bool = False
    loggers: list[Logger] = field(default_factory=list)
    observers: list[Observer] = field(default_factory=list)
    replay: Path | None = None
    listed: NDArray[np.int64] | None = None
    keep_rounds: int | None = None
    cache: Path | None = None
    changed: Literal["tell", "recompute", "keep"] = "tell"
    untaken: Callable[[Path], Answers | None] = waiting_answers

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise UserError(f"rounds is {self.rounds}; a run needs at least 1.")
        if self.keep_rounds is not None and self.keep_rounds < 1:
            raise UserError(
                f"keep_rounds is {self.keep_rounds}; the last round's checkpoints have to stay: "
                f"give at least 1, or null to keep all."
            )
        check_question(self.method, self.kind)
        if self.method.reads_truth:
            if not self.splits.train.has_truth:
                raise UserError(
                    "this choice reads the ground truth of the whole pool, and there is none; it "
                    "is for experiments on labelled data."
                )
            log.warning(
                "The choice reads ground truth that nobody was asked for, which no one could do "
                "who has to pay for labels."
            )
        self.ledger = Ledger(self.root, writes=is_rank_zero())
        self.asked: Query | None = None  # by this process, last

    def context(self, round: int) -> RoundContext:
        """What the method may know in a round."""
        return RoundContext(
            round=round,
            rounds=self.rounds,
            seed=self.seed,
            pool=self.pool,
            images=self.splits.train
            if self.method.reads_truth
            else WithoutTruth(self.splits.train),
            regions=self.regions,
            kind=self.kind,
            diversity=None if self.method.diversity is None else Diversity(self.method.diversity),
            network=self.network,
            ledger=self.ledger,
            cache=self.cache or self.root / "cache",
        )
