"""What the study runs, as data: settings, rows, seeds, and the order they are worked on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from alseg.core.errors import UserError


@dataclass(frozen=True)
class Setting:
    """What all rows share.

    Attributes:
        steps: Training batches of a fit. Every round trains anew, so a round of more labels has as
            many.
        rounds: Rounds of the same budget: as many points of a curve.
        words: Options of ``python -m alseg.run``.
        training: Options of the method, without ``method.``; a method takes those it has.
        superpixel: Mean size of a superpixel aimed at, in pixels.
        patches: Patches of a 4 x 4 grid bought in a round, where patches are asked.
        data: Name of the data, as in the name of the file of results.
        rare: Classes with less than a fifth of an equal share of the pixels of the training masks.
        boards: What is asked on these data, see `BOARDS`.
    """

    steps: int
    rounds: int
    words: Mapping[str, str]
    training: Mapping[str, str]
    superpixel: int
    patches: int
    data: str = "camvid"
    rare: tuple[str, ...] = ("bicyclist", "pedestrian", "pole", "fence", "sign")
    boards: tuple[str, ...] = ("pixels", "superpixels", "class_sets", "patches")


_ADAMW = {"lr": "5e-4", "head_factor": "5", "optimizer": "adamw", "weight_decay": "1e-5"}
_CAMVID = {"data": "camvid", "network.encoder": "tu-tf_efficientnet_lite0"}
#: Windows of four tiles to learn from, of two others to measure on.
_AERIAL = {
    "data": "folder",
    "data.images": "*/images",
    "data.masks": "*/masks",
    "data.val": "[tile_3/*,tile_6/*]",
    "data.scale": "0.25",
    "data.window": "[96,96]",
    "data.colors": "{Water:[226,169,41],Land:[132,41,246],Road:[110,193,228],"
    "Building:[60,16,152],Vegetation:[254,221,58],Unlabeled:[155,155,155]}",
    "data.ignore": '[Unlabeled,"#000000"]',
    "network.encoder": "tu-tf_efficientnet_lite0",
}
#: At 96 x 128 an encoder of stride 16 leaves 6 x 8 cells to DeepLabV3+; FPN sees four sizes.
_FPN = {
    "network.architecture": "FPN",
    "network.options": "{decoder_pyramid_channels:64,decoder_segmentation_channels:64}",
}
_SMALL = Setting(
    steps=100,
    rounds=3,
    words={
        **_CAMVID,
        **_FPN,
        "data.size": "[96,128]",
        "augment.scale": "[1,1]",
        "budget.amount": "3670",
    },
    training={**_ADAMW, "batch_size": "8"},
    superpixel=64,
    patches=235,
)
#: 10 clicks an image in a round. A round of `small` takes one core half a minute; `medium` learns
#: what `small` leaves unlearnt; `large` has the size of the papers, and wants a GPU.
SETTINGS = {
    "small": _SMALL,
    "medium": replace(_SMALL, steps=300),
    "large": Setting(
        steps=4600,  # 50 passes over 367 images in batches of 4, as PixelPick's
        rounds=10,
        words={**_CAMVID, "budget.amount": "3670"},
        training={**_ADAMW, "batch_size": "4"},
        superpixel=256,
        patches=235,
    ),
    "aerial": Setting(
        steps=300,
        rounds=3,
        words={**_AERIAL, **_FPN, "augment.flip": "0.5", "budget.amount": "2520"},
        training={**_ADAMW, "batch_size": "8"},
        superpixel=64,
        patches=160,
        data="aerial",
        rare=("Water",),
        boards=("pixels", "images"),
    ),
}


@dataclass(frozen=True)
class Row:
    """One method, and what it asks about.

    Attributes:
        words: Options that only this row has. ``{steps}``, ``{half}``, ``{superpixel}`` and
            ``{patches}`` are numbers of the setting.
        board: Rows of one board ask alike, and are compared with each other.
        first: Row that asks the same first query and learns it with the same network: round 0 is
            trained once for both.
        lacks: Options of `Setting.training` that the method does not have.
        chance: Row that asks the same at random, if it is not that of the board.
        batches: Batches of a round's fits, with ``{steps}`` and ``{half}``.
    """

    words: Mapping[str, str]
    board: str
    first: str | None = None
    lacks: tuple[str, ...] = field(default=())
    chance: str | None = None
    batches: str = "{steps}"


#: Board -> the row that the others are measured against. Full supervision is on all of them.
BOARDS = {
    "pixels": "random_pixels",
    "superpixels": "random_superpixels",
    "class_sets": "mulquery_random",
    "patches": "random_patches",
    "images": "als4gan_random",
}
FULL = "supervised"
#: Its board, which is part of every other.
FULL_BOARD = "full"

_STEPS = {"method.steps": "{steps}", "method.epoch_steps": "{steps}"}
_SUPERPIXELS = {"regions": "seeds", "regions.region_size": "{superpixel}"}
_PIXELS = {**_STEPS, "regions": "pixels"}
_DOMINANT = {**_STEPS, **_SUPERPIXELS}
_SETS = {**_DOMINANT, "method": "mulquery", "method.stage_two": "false"}
_MADBAL = {
    **_DOMINANT,
    "method": "madbal",
    "method.features": "encoder",
    "method.schedule": "intended",
    "method.support_steps": "{half}",
    "method.support_epoch_steps": "{half}",
    "method.support_batch_size": "8",
}
_PHASES = "{steps} + {half}"
#: As in ``experiments/aerial/als4gan.yaml``, from ImageNet weights.
_ALS4GAN = {
    **_STEPS,
    "method": "als4gan",
    "rounds": "null",
    "method.ratio": "0.1",
    "method.classifier": "tu-tf_efficientnet_lite0",
    "method.classifier_passes": "10",
    "method.classifier_lr": "0.01",
    "method.lr": "0.01",
    "method.discriminator_width": "32",
    "method.self_training_start": "{half}",
}
_OWN_RATES = ("optimizer", "head_factor", "lr")
_PATCHES = {
    "regions": "grid",
    "regions.rows": "4",
    "regions.cols": "4",
    "budget.axis": "units",
    "budget.amount": "{patches}",
    "budget.rule": "within",
}

ROWS: dict[str, Row] = {
    FULL: Row({**_STEPS, "method": "supervised", "rounds": "1"}, FULL_BOARD),
    # the class of a pixel
    "pixelpick": Row({**_PIXELS, "method": "pixelpick"}, "pixels"),
    "random_pixels": Row({**_PIXELS, "method": "random"}, "pixels", "pixelpick"),
    "margin": Row({**_PIXELS, "method": "margin"}, "pixels", "pixelpick"),
    "entropy": Row({**_PIXELS, "method": "entropy"}, "pixels", "pixelpick"),
    "entropy_each_image": Row(  # the same score, as many pixels of every image
        {**_PIXELS, "method": "pixelpick", "method.strategy": "entropy"}, "pixels", "pixelpick"
    ),
    "madbal": Row(_MADBAL, "pixels", batches=_PHASES),
    "madbal_pixel_reversed": Row(
        {**_MADBAL, "method.reading": "pixel_reversed"}, "pixels", batches=_PHASES
    ),
    "madbal_pixel_js": Row({**_MADBAL, "method.reading": "pixel_js"}, "pixels", batches=_PHASES),
    # the class of most of a superpixel
    "random_superpixels": Row({**_DOMINANT, "method": "random"}, "superpixels"),
    "classbal": Row({**_DOMINANT, "method": "classbal"}, "superpixels", "random_superpixels"),
    "adaptive_superpixel": Row({**_DOMINANT, "method": "adaptive_superpixel"}, "superpixels"),
    "bald": Row({**_DOMINANT, "method": "bald"}, "superpixels", "random_superpixels"),
    "badge": Row({**_DOMINANT, "method": "badge"}, "superpixels", "random_superpixels"),
    "coreset": Row({**_DOMINANT, "method": "coreset"}, "superpixels", "random_superpixels"),
    # all classes of a superpixel
    "mulquery_random": Row(
        {**_SETS, "method.acquisition": "random"}, "class_sets", lacks=("optimizer",)
    ),
    "mulquery": Row(_SETS, "class_sets", "mulquery_random", lacks=("optimizer",)),
    "mulquery_two_stages": Row(
        {
            **_SETS,
            "method.stage_two": "true",
            "method.stage_two_steps": "{steps}",
            "method.stage_two_batch_size": "8",
            "method.stage_two_lr": "5e-4",
        },
        "class_sets",
        lacks=("optimizer",),
        batches="{steps} + {steps}",
    ),
    # figure 7b of the paper: networks and losses of sets, asked for one class of a superpixel
    "mulquery_dominant_random": Row(
        {**_SETS, "method.answer": "dominant", "method.acquisition": "random"},
        "class_sets",
        lacks=("optimizer",),
    ),
    "mulquery_dominant": Row(
        {**_SETS, "method.answer": "dominant"},
        "class_sets",
        "mulquery_dominant_random",
        lacks=("optimizer",),
        chance="mulquery_dominant_random",
    ),
    # masks of patches
    "random_patches": Row({**_STEPS, **_PATCHES, "method": "random"}, "patches"),
    # which goes on with the weights of the round before, pass by pass, until a final training: of
    # all patches, about as many batches as the others
    "equal": Row(
        {
            **_PATCHES,
            "method": "equal",
            "method.milestone_epochs": "2",
            "method.final_epochs": "8",
            "method.final_batch_size": "8",
        },
        "patches",
        lacks=("optimizer", "head_factor"),
        batches="{steps} at the end",
    ),
    # masks of images, and images without any
    "als4gan_random": Row(
        {**_ALS4GAN, "method.strategy": "random"},
        "images",
        lacks=("optimizer", "head_factor", "lr"),
    ),
    "als4gan": Row(
        _ALS4GAN,
        "images",
        lacks=("optimizer", "head_factor", "lr"),
        batches="{steps}, and a classifier",
    ),
}

_FIRST = ("pixelpick", "random_pixels", "margin", FULL, "mulquery_random", "mulquery")
_SECOND = ("random_superpixels", "classbal", "adaptive_superpixel")
_REST = tuple(name for name in ROWS if name not in (*_FIRST, *_SECOND))
#: Seeds and rows, the most telling first.
ORDER: tuple[tuple[tuple[int, ...], tuple[str, ...]], ...] = (
    ((0,), (*_FIRST, *_SECOND)),
    ((1, 2), _FIRST),
    ((0,), _REST),
    ((1, 2), _SECOND),
    ((3, 4), (*_FIRST, *_SECOND)),
    ((1, 2, 3, 4), _REST),
)


class Job(NamedTuple):
    """One run: a row with a seed."""

    row: str
    seed: int

    @property
    def block(self) -> tuple[str, int]:
        """Board and seed: such runs share a round 0, and are worked on by one process."""
        return ROWS[self.row].board, self.seed


def jobs(part: int = 0, parts: int = 1) -> list[Job]:
    """The runs of one part of the study, in the order they are worked on.

    Args:
        part: Which one, 0..parts-1.
        parts: Among how many processes or machines the study is divided.

    Raises:
        UserError: If there is no such part.
    """
    if not 0 <= part < parts:
        raise UserError(f"--part {part}/{parts}: parts are counted from 0 to {parts - 1}.")
    everything = list(_everything())
    blocks = list(dict.fromkeys(job.block for job in everything))
    mine = set(blocks[part::parts])
    return [job for job in everything if job.block in mine]


def _everything() -> Iterator[Job]:
    for seeds, rows in ORDER:
        for seed in seeds:
            yield from (Job(row, seed) for row in rows)


def chance_of(row: str) -> str | None:
    """The row that asks the same at random; None of one that does, and of full supervision."""
    found = ROWS[row].chance or BOARDS.get(ROWS[row].board)
    random = {*BOARDS.values(), *(other.chance for other in ROWS.values())}
    return None if row in random else found


def batches(row: str, setting: Setting) -> str:
    """Batches that a row learns in a round, in words."""
    return ROWS[row].batches.format(**_numbers(setting))


def _numbers(setting: Setting) -> dict[str, int]:
    return {
        "steps": setting.steps,
        "half": setting.steps // 2,
        "superpixel": setting.superpixel,
        "patches": setting.patches,
    }


def words(job: Job, setting: Setting) -> list[str]:
    """The words of a run after ``python -m alseg.run``, without those of places."""
    row, numbers = ROWS[job.row], _numbers(setting)
    training = {
        f"method.{name}": value for name, value in setting.training.items() if name not in row.lacks
    }
    own = {name: value.format(**numbers) for name, value in row.words.items()}
    given = {**setting.words, "rounds": str(setting.rounds), **training, **own}
    return [*(f"{name}={value}" for name, value in given.items()), f"seed={job.seed}"]
