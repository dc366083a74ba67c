"""Region maps and class sets that authors released, for `alseg.cli.regions`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alseg.cli.datawords import split_words
from alseg.core.errors import UserError
from alseg.core.files import read_text
from alseg.core.images import ImageSet

if TYPE_CHECKING:
    from alseg.cli.regions import RegionOptions


def import_released(words: Sequence[str], given: "RegionOptions") -> None:
    """Import what a command names.

    Args:
        words: Those of a data set.
        given: Has ``pickles`` or ``multihot``.

    Raises:
        UserError: For words, options or files that cannot be used.
    """
    others, data = split_words(words)
    if others:
        raise UserError(
            f"{others[0]!r} has no meaning for what is imported; give data=NAME data.root=FOLDER."
        )
    if given.to is None or (given.pickles and given.multihot):
        raise UserError("give one of pickles and multihot, and where it goes, to=PATH.")
    if given.shard or given.export or given.of_round is not None:
        raise UserError("shard, export and of_round are for maps of a run; leave them out.")
    images = None if data is None else _training_images(data)
    to = Path(given.to).expanduser()
    if given.pickles:
        from alseg.regions.imported import import_maps

        count = import_maps(Path(given.pickles).expanduser(), to, images)
        print(f"{count} maps in {to}; regions=files regions.folder={to} regions.void=65535")
        return
    _import_sets(given, images, to)


def _training_images(data: Any) -> ImageSet:
    from alseg.cli.run import cache_folder

    images: ImageSet = data.splits(progress=True, cache=cache_folder(None)).train
    return images


def _import_sets(given: "RegionOptions", images: ImageSet | None, to: Path) -> None:
    from alseg.labels.published import import_sets

    if images is None:
        raise UserError("multihot has rows of a data set; give data=NAME data.root=FOLDER, too.")
    if to.suffix != ".npz":
        raise UserError(f"to is {to}; give a file that ends in .npz.")
    order = None
    if given.order is not None:
        try:
            lines = read_text(Path(given.order).expanduser()).splitlines()
        except OSError as error:
            raise UserError(f"cannot read order={given.order} ({error.strerror}).") from error
        order = [line.strip() for line in lines if line.strip()]
    table = import_sets(Path(str(given.multihot)).expanduser(), images, order)
    table.save(to)
    print(f"class sets of {len(table.sets)} regions in {to}; oracle=table oracle.file={to}")
