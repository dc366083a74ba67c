"""The command: ``python -m alseg.regions data=… [--shard 3/16]``, region maps before a run."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alseg.cli import command
from alseg.cli.folders import separate
from alseg.cli.help import explain
from alseg.core.errors import UserError

if TYPE_CHECKING:
    from alseg.cli.compose import Options
    from alseg.regions.base import Maps

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RegionOptions:
    """Cuts the images of a run into regions, into the cache that runs share.

    The words are those of alseg.run. Several of these commands may work at once, on one machine or
    many, each on its share of the images; a run with the same words then finds the maps, makes what
    is missing and goes on. Weights that the run begins from are fetched as well.

    What a paper's authors released as pickle files is brought into forms that runs take; of such a
    file nothing is run. Maps become PNGs for regions=files regions.folder=TO regions.void=65535,
    class sets of their regions a table for oracle=table oracle.file=TO. The words are then those
    of the data set alone, and files are matched to its training images by their names.

    Attributes:
        shard: Which share, such as 3/16: every sixteenth image from the third on; null = all.
            Also written --shard 3/16.
        export: Folder for PNGs of 16 bits of the maps, one per image, with 65535 for no region;
            null = none are written.
        of_round: With ``export``, the maps that this round of the run asked about, where its method
            makes maps of its own, as adaptive_superpixel does; null = those of all rounds.
        pickles: A .pkl file or a folder of such with region maps to import: integers (H, W), or
            dictionaries that hold them as labels; null = none.
        multihot: A .pkl file with the classes of every region to import, arrays of 0 and 1,
            regions by classes, void last or left out; null = none.
        order: With ``multihot``, a text file with one name of an image per line, where all images
            are in one array without names; null = in the order of the training images.
        to: Folder of the maps, or file (.npz) of the class sets that are imported.
    """

    shard: str | None = None
    export: str | None = None
    of_round: int | None = None
    pickles: str | None = None
    multihot: str | None = None
    order: str | None = None
    to: str | None = None

    def share(self) -> tuple[int, int]:
        """Index of the share, from 0, and number of shares.

        Raises:
            UserError: If they are none.
        """
        if self.shard is None:
            return 0, 1
        part, _, count = self.shard.partition("/")
        if not (part.isdecimal() and count.isdecimal() and 1 <= int(part) <= int(count)):
            raise UserError(f"shard is {self.shard!r}; give I/N with 1 <= I <= N, such as 3/16.")
        return int(part) - 1, int(count)


def cut(words: Sequence[str], given: RegionOptions) -> None:
    """Make the region maps of a run's images, or of a share of them, or import some.

    Raises:
        UserError: For options or images that cannot be used.
    """
    from alseg.cli.compose import options
    from alseg.cli.run import check, open_images
    from alseg.core.images import channels_of
    from alseg.regions.maps import extract_regions
    from alseg.regions.pngs import write_maps

    if given.pickles or given.multihot:
        from alseg.cli.imports import import_released

        import_released(words, given)
        return
    share = given.share()
    if given.to or given.order:
        raise UserError("to and order belong to what is imported; give pickles or multihot, too.")
    if given.of_round is not None and given.export is None:
        raise UserError("of_round says which maps are written; give export=FOLDER, too.")
    if given.export is not None and share != (0, 1):
        raise UserError("export writes the maps of all images; leave out shard.")
    composed = options(*words)
    plan = check(composed)
    part: dict[str, Any] = composed.components
    splits = open_images(composed, plan)
    images = splits.train
    # not used here: what fetches weights keeps them
    part["network"].reading(channels_of(images)).build(len(images.classes))
    if part["regions"].unit == "pixel":
        print("This run asks about pixels, which need no maps; its weights are there.")
        return
    workers = composed.values["workers"]
    maps = extract_regions(part["regions"], images, plan.cache, workers, plan.progress, share)
    mine = len(range(share[0], len(images), share[1]))
    print(f"{mine} of {len(images)} images: {maps.version} in {plan.cache}")
    if given.export is not None:
        shown: Maps = maps if given.of_round is None else _maps_of_round(composed, given.of_round)
        folder = Path(given.export)
        write_maps(shown, images.names, folder, plan.progress)
        print(f"{len(images)} images: {shown.version} in {folder}")


def _maps_of_round(composed: "Options", round: int) -> "Maps":
    """The maps a round asked about.

    Raises:
        UserError: If the run has not come so far, or its method makes none of its own.
    """
    from alseg.cli.run import build, run_dir

    root, method = run_dir(composed), composed.choices["method"]
    if not (root / f"round_{round:03d}" / "query.npz").is_file():
        raise UserError(f"no round {round} in {root}; give run_dir=… and a round that has asked.")
    run = build(composed)
    maps = run.method.regions(run.context(round))
    if maps is None:
        raise UserError(
            f"round {round} of method={method} asked about the maps of all rounds; leave out "
            f"of_round."
        )
    return maps


def help_text() -> str:
    """What ``--help`` prints."""
    return explain(
        RegionOptions,
        "python -m alseg.regions [options of alseg.run] [--shard I/N] [--export FOLDER]",
        [
            "python -m alseg.regions preset=experiments/mulquery/camvid.yaml --shard 3/16",
            "python -m alseg.regions data=voc data.root=voc --pickles seeds_32 --to maps",
        ],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit status, see `alseg.cli.command.main`."""
    return command.main(
        arguments, lambda words: help_text(), lambda words: cut(*separate(RegionOptions, words))
    )
