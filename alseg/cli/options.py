"""The options of the command that belong to no method, data set or oracle."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from alseg.cli.world import launched
from alseg.core.errors import UserError
from alseg.core.images import channels_of
from alseg.core.options import FREE

if TYPE_CHECKING:  # torch takes seconds to import
    from alseg.core.images import ImageSet
    from alseg.data.transforms import EvalTransform, TrainTransform


@dataclass(frozen=True)
class RunOptions:
    """The options of the run itself.

    Attributes:
        rounds: Rounds: buy, train, evaluate, ask; null = as many as the method prescribes.
        seed: Decides everything random.
        query: replay:RUN_DIR repeats another run's purchases; list:FILE, a text file with one image
            per line, buys the masks of these images; null = the method chooses.
        labels_from: Run folder, or [FOLDER,FOLDER], whose answers this run owns: about images that
            are here too, whatever their names. They cost nothing, and nobody is asked them again.
        labels_as: What a class is called here by its name in those folders, void for none.
        answers: Where a person has changed answers that were taken: recompute goes back to that
            round, and keeps aside what was bought later; keep leaves them; null = tell and go on.
        run_dir: The run folder; null = runs/<data>_<method>_seed<seed>.
        cache: Where region maps are kept between runs; null = the user's cache folder.
        workers: Loader processes per loader, and processes that extract regions.
        eval_batch_size: Whole images per batch where all have one size.
        keep_rounds: Rounds whose checkpoints stay, the last ones; null = all.
        pictures: Images pictured in the report per round.
        plugins: Python modules of your own that register methods, data sets and the like, with
            commas between them; from the current folder or PYTHONPATH.
    """

    rounds: int | None = field(default=5, metadata=FREE)
    seed: int = 0
    query: str | None = None
    labels_from: str | tuple[str, ...] | None = None
    labels_as: dict[str, str] = field(default_factory=dict)
    answers: str | None = field(default=None, metadata=FREE)
    run_dir: str | None = field(default=None, metadata=FREE)
    cache: str | None = field(default=None, metadata=FREE)
    workers: int = field(default=2, metadata=FREE)
    eval_batch_size: int = field(default=4, metadata=FREE)
    keep_rounds: int | None = field(default=None, metadata=FREE)
    pictures: int = field(default=4, metadata=FREE)
    plugins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for option, least in (("workers", 0), ("eval_batch_size", 1), ("pictures", 0)):
            if getattr(self, option) < least:
                raise UserError(f"{option} is {getattr(self, option)}; give at least {least}.")
        if self.answers not in (None, "recompute", "keep"):
            raise UserError(
                f"answers is {self.answers!r}; write answers=recompute or answers=keep, or leave "
                f"it out."
            )
        if "" in self.sources:
            raise UserError("labels_from is empty; give labels_from=FOLDER, or leave it out.")
        if self.labels_as and not self.sources:
            raise UserError(
                "labels_as says what classes of labels_from are called; give that, too."
            )
        if self.sources and self.query is not None and not self.query.startswith("list:"):
            raise UserError(
                "labels_from owns the answers of a run, and query=replay repeats its purchases; "
                "give one of them."
            )
        for option in ("run_dir", "cache"):
            if getattr(self, option) == "":
                raise UserError(f"{option} is empty; give {option}=FOLDER, or leave it out.")

    @property
    def sources(self) -> tuple[str, ...]:
        """The folders of `labels_from`."""
        given = self.labels_from
        return (given,) if isinstance(given, str) else given or ()


@dataclass(frozen=True)
class TrainerOptions:
    """Where and how `lightning.Trainer` computes.

    Attributes:
        accelerator: ``auto``, ``cpu``, ``gpu`` or ``mps``.
        devices: Processes on each machine, one device each; null = as many as torchrun or SLURM
            started, else 1.
        num_nodes: Machines; null = those of torchrun or SLURM, else 1.
        strategy: ``auto`` or any strategy of Lightning by name. On several devices ``auto`` is
            ``ddp``, and ``ddp_find_unused_parameters_true``, which is slower, for networks with
            layers that are never read and for stages in which networks learn in turn.
        precision: Of training and evaluation, e.g. ``32-true``, ``bf16-mixed``, ``16-mixed``; the
            pool is scored in float32 all the same, see docs/precision.md.
        sync_batchnorm: Compute batch statistics over all devices.
        deterministic: Ask for deterministic kernels (slower; on GPUs some have none and warn).
        gradient_clip: Largest norm of the gradient; null = no clipping.
        channels_last: Keep networks and their maps with the channels of a pixel side by side. On a
            CPU the forward pass of a ResNet is then faster, training and MobileNets are not, see
            ``python -m benchmarks layout``; results round otherwise.
        compile: Compile networks by ``torch.compile`` while they are trained, see
            docs/precision.md. Every stage compiles anew, which takes a minute or so of a processor;
            on a CPU its steps are not faster. Results round otherwise. Needs a C++ compiler.
        enable_progress_bar: Show progress.
    """

    accelerator: str = field(default="auto", metadata=FREE)
    devices: int | None = field(default=None, metadata=FREE)
    num_nodes: int | None = field(default=None, metadata=FREE)
    strategy: str = field(default="auto", metadata=FREE)
    precision: str = "32-true"
    sync_batchnorm: bool = False
    deterministic: bool = False
    gradient_clip: float | None = None
    channels_last: bool = False
    compile: bool = False
    enable_progress_bar: bool = field(default=True, metadata=FREE)

    def __post_init__(self) -> None:
        for option in ("devices", "num_nodes"):
            given = getattr(self, option)
            if given is not None and given < 1:
                raise UserError(f"trainer.{option} is {given}; give at least 1.")

    def world(self) -> tuple[int, int]:
        """Devices per machine and machines.

        Raises:
            UserError: If a launcher such as torchrun started another number of processes.
        """
        world = launched()
        if world is None:
            return self.devices or 1, self.num_nodes or 1
        return world.settle(self.devices, self.num_nodes)

    def device(self) -> str:
        """What networks are trained on: ``cpu``, ``cuda``, ``mps`` and so on."""
        import torch

        found = torch.accelerator.current_accelerator(check_available=True)
        return "cpu" if self.accelerator == "cpu" or found is None else found.type

    def keywords(self, needs: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Keyword arguments for one `lightning.Trainer`; each needs a strategy of its own.

        Args:
            needs: Options of this class a stage needs, such as a strategy, which counts on several
                devices only; what the user set to something else than the default wins.
        """
        chosen, (devices, nodes) = self, self.world()
        for name, value in (needs or {}).items():
            if name == "strategy" and devices * nodes == 1:
                continue
            if getattr(self, name) == getattr(type(self), name):
                chosen = replace(chosen, **{name: value})
        return chosen._keywords()

    def _keywords(self) -> dict[str, Any]:
        from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
        from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

        devices, nodes = self.world()
        strategy: Any = self.strategy
        # None: where a network needs it
        searches = {"auto": None, "ddp": False, "ddp_find_unused_parameters_true": True}
        if strategy in searches and (strategy != "auto" or devices * nodes > 1):
            from alseg.active.launch import WatchedDDP

            strategy = WatchedDDP(
                find_unused_parameters=searches[strategy],
                timeout=timedelta(hours=4),  # rank 0 may cluster for hours while the others wait
            )
        plugins: list[Any] = []
        # torchrun may start the processes inside a SLURM job
        if SLURMEnvironment.detect() and not TorchElasticEnvironment.detect():
            # Lightning wants to read it, and on one machine all tasks are there
            os.environ.setdefault("SLURM_NTASKS_PER_NODE", str(devices))
            # a requeued job is the same command again; Lightning's own requeueing would load a
            # checkpoint of its own into whatever fit comes next
            plugins.append(SLURMEnvironment(auto_requeue=False))
        return {
            "accelerator": self.accelerator,
            "devices": devices,
            "num_nodes": nodes,
            "strategy": strategy,
            "precision": self.precision,
            "sync_batchnorm": self.sync_batchnorm,
            "deterministic": "warn" if self.deterministic else None,
            "gradient_clip_val": self.gradient_clip,
            "enable_progress_bar": self.enable_progress_bar,
            "plugins": plugins,
        }


@dataclass(frozen=True)
class Augment:
    """Training augmentation, and how colours are normalised, in training and elsewhere.

    Attributes:
        crop: Height and width of training crops; null = the size of the images, where they have
            one size.
        scale: Smallest and largest factor of the random scale.
        scale_step: Draw only factors so far apart, from the smallest on; null = any between.
        rotate: Turn pictures by a whole number of degrees, up to so many to either side, before all
            else; what comes in at the borders is mirrored.
        flip: Probability of the mirror image.
        jitter: Largest change of brightness, contrast, saturation and hue, 0..1 (hue: 0..0.5),
            applied with probability 0.8; all 0 = none.
        grayscale: Probability of a picture without colours.
        blur: Probability of a Gaussian blur.
        blur_sigma: Smallest and largest sigma of the blur, in pixels.
        mean: Subtracted from each channel of images in [0, 1]; by default ImageNet's RGB. Channels
            beyond the numbers given here begin with the first number again, as the first layer of
            pretrained networks does.
        std: Each channel is divided by it; repeated likewise.
        pad: What surrounds pictures smaller than the crop. ``center``: the mean colour on all
            sides, which changes of colours change too. ``bottom_right``: zeros of what the network
            sees, at the bottom and on the right (of mirror images on the left).
    """

    crop: tuple[int, int] | None = None
    scale: tuple[float, float] = (0.5, 2.0)
    scale_step: float | None = None
    rotate: int = 0
    flip: float = 0.5
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    grayscale: float = 0.0
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    pad: str = "center"

    def __post_init__(self) -> None:
        if self.crop is not None and (len(self.crop) != 2 or min(self.crop) < 1):
            raise UserError(f"augment.crop is {self.crop}; give [height,width] in pixels.")
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1]:
            raise UserError(f"augment.scale is {self.scale}; give [low,high] with 0 < low <= high.")
        if self.scale_step is not None and not self.scale_step > 0:
            raise UserError(f"augment.scale_step is {self.scale_step}; give > 0, e.g. 0.25.")
        if not 0 <= self.rotate <= 180:
            raise UserError(f"augment.rotate is {self.rotate}; give degrees, 0 to 180.")
        if len(self.blur_sigma) != 2 or not 0 < self.blur_sigma[0] <= self.blur_sigma[1]:
            raise UserError(
                f"augment.blur_sigma is {list(self.blur_sigma)}; give [low,high] in pixels with "
                f"0 < low <= high."
            )
        for option in ("flip", "grayscale", "blur"):
            if not 0 <= getattr(self, option) <= 1:
                raise UserError(
                    f"augment.{option} is {getattr(self, option)}; it is a probability."
                )
        most = (1, 1, 1, 0.5)
        if len(self.jitter) != 4 or not all(
            0 <= v <= m for v, m in zip(self.jitter, most, strict=True)
        ):
            raise UserError(
                f"augment.jitter is {list(self.jitter)}; give [brightness,contrast,saturation,hue] "
                f"of 0..1, hue of 0..0.5."
            )
        inside = all(0 <= v <= 1 for v in self.mean) and all(v > 0 for v in self.std)
        if len(self.mean) != len(self.std) or not self.mean or not inside:
            raise UserError(
                f"augment.mean is {list(self.mean)} and augment.std {list(self.std)}; give as many "
                f"numbers each as images have channels, of images in 0..1: the mean in 0..1, the "
                f"other above 0."
            )
        if self.pad not in ("center", "bottom_right"):
            raise UserError(f"augment.pad is {self.pad!r}; give center or bottom_right.")

    def build(self, images: "ImageSet") -> "TrainTransform":
        """The transform for training images.

        Raises:
            UserError: If there is no crop and the images differ in size.
        """
        from alseg.data.datamodule import one_size
        from alseg.data.transforms import TrainTransform

        crop = None if self.crop is None else (int(self.crop[0]), int(self.crop[1]))
        if crop is None:
            crop = one_size(images)
        channels = channels_of(images)
        mean, std = self._normalization(channels)
        if channels != 3 and (any(self.jitter) or self.grayscale):
            raise UserError(
                f"augment.jitter and augment.grayscale change colours, and these images have "
                f"{channels} channels; leave them out, or give three bands with data.bands."
            )
        in_corner = self.pad == "bottom_right"
        return TrainTransform(
            crop=crop,
            scale=(float(self.scale[0]), float(self.scale[1])),
            scale_step=self.scale_step,
            rotate=self.rotate,
            flip=self.flip,
            jitter=(self.jitter[0], self.jitter[1], self.jitter[2], self.jitter[3]),
            grayscale=self.grayscale,
            blur=self.blur,
            blur_sigma=(float(self.blur_sigma[0]), float(self.blur_sigma[1])),
            mean=mean,
            std=std,
            pad_value=None if in_corner else tuple(round(255 * part) for part in mean),
            pad_position="top_left" if in_corner else "center",
        )

    def plain(self, channels: int = 3) -> "EvalTransform":
        """The transform for images that are scored or evaluated."""
        from alseg.data.transforms import EvalTransform

        return EvalTransform(*self._normalization(channels))

    def _normalization(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of every channel."""
        given = len(self.mean)
        if given not in (3, channels):
            raise UserError(
                f"augment.mean and augment.std have {given} numbers each, and the images have "
                f"{channels} channels; give one number per channel."
            )
        order = [channel % given for channel in range(channels)]
        return tuple(self.mean[i] for i in order), tuple(self.std[i] for i in order)
