import lightning as L
import pytest

from alseg.config import Augment, TrainerOptions
from alseg.errors import UserError
from tests.toys import ToyImages


@pytest.mark.parametrize("strategy", ["auto", "ddp", "ddp_find_unused_parameters_true"])
def test_every_trainer_gets_a_strategy_of_its_own(strategy):
    options = TrainerOptions(accelerator="cpu", devices=2, strategy=strategy)
    one, two = (L.Trainer(**options.keywords(), logger=False) for _ in range(2))
    assert one.strategy is not two.strategy
    assert one.strategy._timeout.total_seconds() == 4 * 3600
    assert one.world_size == 2


def test_a_stages_needs_yield_to_what_the_user_set():
    needs = {"strategy": "ddp_find_unused_parameters_true"}
    made = TrainerOptions(accelerator="cpu", devices=2).keywords(needs)["strategy"]
    assert made._ddp_kwargs == {"find_unused_parameters": True}
    assert TrainerOptions(accelerator="cpu", devices=2, strategy="ddp").keywords()[
        "strategy"
    ]._ddp_kwargs == {"find_unused_parameters": False}
    user = TrainerOptions(accelerator="cpu", devices=2, strategy="ddp_spawn")
    assert user.keywords(needs)["strategy"] == "ddp_spawn"


def test_images_of_several_sizes_need_a_crop():
    class Mixed(ToyImages):
        def size(self, index):
            return (32, 48 + index)

    with pytest.raises(UserError, match=r"3 sizes; give augment\.crop"):
        Augment().build(Mixed(3))
    assert Augment(crop=(16, 16)).build(Mixed(3)).crop == (16, 16)
    assert Augment().build(ToyImages(3)).crop == (32, 48)


def test_nonsense_is_refused():
    for bad in ({"devices": 0}, {"num_nodes": 0}):
        with pytest.raises(UserError, match="give at least 1"):
            TrainerOptions(**bad)
    for bad in ({"crop": (0, 3)}, {"flip": 2.0}, {"scale": (0.0, 1.0)}):
        with pytest.raises(UserError, match="augment"):
            Augment(**bad)
