"""What is refused when a run has been put together: stages that cannot be fed."""

from typing import TYPE_CHECKING

from alseg.core.errors import UserError

if TYPE_CHECKING:  # torch takes seconds to import
    from alseg.active.run import Run
    from alseg.active.stage import Stage
    from alseg.cli.options import TrainerOptions
    from alseg.data.datamodule import ActiveDataModule
    from alseg.nn.segmenter import Segmenter


def check_stages(
    run: "Run", network: "Segmenter", data: "ActiveDataModule", trainer: "TrainerOptions"
) -> None:
    """Refuse stages that these images, or so few of them at a time, cannot feed.

    Args:
        run: The run.
        network: One that it trains.
        data: Its images.
        trainer: Among how many devices a batch is divided, and what these share.

    Raises:
        UserError: Naming the stage, and what to do.
    """
    from alseg.core.images import choice_of
    from alseg.nn.batches import takes_one_image

    world, channels = _world(trainer), getattr(run.splits.train, "channels", 3)
    shared = trainer.sync_batchnorm and world > 1
    crop = data.train_transform.crop
    for stage in _stages(run):
        if stage.fit.keep == "best" and not len(choice_of(run.splits)):
            raise UserError(
                f"stage {stage.name} keeps the weights that are best on the validation images, "
                f"and there are none; give some, or let it keep the last weights."
            )
        single = stage.fit.batch_size <= world and not (shared or stage.takes_single)
        if single and crop and not takes_one_image(network, channels, crop):
            raise UserError(
                f"stage {stage.name} trains with one image at a time (batch_size is "
                f"{stage.fit.batch_size} on {world} devices), but {run.network.architecture} "
                f"pools an image to one value per channel and normalises that over the batch, "
                f"which takes two images; raise the batch_size of the stage, such as "
                f"method.batch_size={2 * world}, or give another network, such as "
                f"network.architecture=FPN."
            )


def check_shared_memory(run: "Run", data: "ActiveDataModule", trainer: "TrainerOptions") -> None:
    """Refuse loader processes whose batches the shared memory cannot hold, even as bytes.

    Args:
        run: The run.
        data: Its images.
        trainer: Among how many devices a batch is divided.

    Raises:
        UserError: See `alseg.data.workers.require_shared_memory`.
    """
    from alseg.core.images import channels_of
    from alseg.data.workers import require_shared_memory

    height, width = data.train_transform.crop or (0, 0)
    largest = max((stage.fit.batch_size for stage in _stages(run)), default=0)
    trained = largest // _world(trainer) * height * width
    sizes = {(int(h), int(w)) for h, w in run.pool.sizes}
    whole = data.eval_batch_size if len(sizes) == 1 else 1
    scored = max(h * w for h, w in sizes) * whole
    bytes_per_pixel = channels_of(run.splits.train) + 1
    require_shared_memory(data.workers, max(trained, scored) * bytes_per_pixel)


def _stages(run: "Run") -> "list[Stage]":
    """Those of the first and of the last round: some come in the end only."""
    rounds = sorted({0, run.rounds - 1})
    return [stage for round in rounds for stage in run.method.stages(run.context(round))]


def _world(trainer: "TrainerOptions") -> int:
    devices, nodes = trainer.world()
    return devices * nodes
