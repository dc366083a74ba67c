"""Whole runs of ALS4GAN against slow loops, cut off, on two processes, and with a list."""

import csv
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch

from alseg.active.driver import buy, drive
from alseg.active.ledger import Ledger
from alseg.core.errors import UserError
from alseg.core.images import VOID, DataSplits
from alseg.core.seeds import derive
from alseg.data.datamodule import TrainItems, collate
from alseg.data.samplers import batches as stream_batches
from alseg.labels.budget import Budget
from alseg.labels.pool import LabelPool
from alseg.labels.tables import Answers, Query
from alseg.methods.als4gan.classifier import SceneClassifier, build_classifier
from alseg.methods.als4gan.method import Als4gan
from alseg.methods.als4gan.module import S4GANModule, batches_of
from alseg.methods.als4gan.schedules import stepped_poly_lr
from alseg.methods.als4gan.step import FIXED, REFERENCE, s4gan_step
from alseg.nn.network import Network
from alseg.nn.schedules import poly_lr
from tests.active.test_driver import bought, same_weights
from tests.kills import Killed, at_call
from tests.toys import ToyImages, toy_run

SCENES = ("meadow", "harbour", "street", "forest")
#: Of 6 images 3 get masks; the classifier starts from 2 and asks about 2 and 1.
METHOD = Als4gan(
    ratio=0.5, alpha=0.7, beta=1.0, classifier="tu-resnet10t", classifier_weights=None,
    classifier_passes=2, classifier_batch_size=2, classifier_lr=0.01, steps=4, batch_size=2,
    epoch_steps=2, lr=1e-2, discriminator_width=4, self_training_start=-1, gate=0.45,
)  # fmt: skip
ROUNDS = 4
RANDOM = replace(METHOD, strategy="random")


def als4gan_run(root, method=METHOD, scenes=SCENES, rounds=ROUNDS, seed=0, **more):
    run = toy_run(root, rounds=rounds, seed=seed, method=method, amount=float("inf"), **more)
    run.splits = DataSplits(ToyImages(6, scenes=scenes), run.splits.val)
    run.datamodule.splits = run.splits
    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    root = tmp_path_factory.mktemp("als4gan") / "run"
    run = als4gan_run(root)
    return root, drive(run), run


def state_of(root, round, stage):
    path = root / f"round_{round:03d}" / stage / "last.ckpt"
    return torch.load(path, weights_only=True)


def query_of(root, round):
    return Query.load(root / f"round_{round:03d}" / "query.npz")


class TestRounds:
    def test_classes_first_then_the_masks_of_what_was_asked(self, finished):
        root, _, run = finished
        answers = [Ledger(root).answers(round) for round in range(ROUNDS)]
        assert [a.answer for a in answers] == ["scene", "scene", "scene", "mask"]
        assert [len(a) for a in answers] == [2, 2, 1, 3]
        for said in answers[:3]:
            assert said.label.tolist() == [run.splits.train.scene(i) for i in said.image.tolist()]
        asked = np.concatenate([a.image for a in answers[1:3]])
        assert answers[3].image.tolist() == asked.tolist(), "in their order, the first ones not"
        assert len({*asked.tolist(), *answers[0].image.tolist()}) == 5
        assert np.array_equal(
            query_of(root, 3).score, np.concatenate([query_of(root, r).score for r in (1, 2)])
        )

    def test_columns_tell_classes_from_masks(self, finished):
        root, rows, _ = finished
        with (root / "rounds.csv").open() as file:
            written = list(csv.DictReader(file))
        assert [row["class_labels"] for row in written] == ["2", "4", "5", "5"]
        assert [row["masks"] for row in written] == ["0", "0", "0", "3"]
        assert [row["miou"] != "" for row in written] == [False, False, False, True]
        assert [row["units"] for row in rows] == [2, 4, 5, 8]
        assert 0 <= rows[-1]["miou"] <= 1

    def test_a_round_trains_what_it_needs(self, finished):
        root, *_ = finished
        stages = sorted(
            str(path.parent.relative_to(root)) for path in root.glob("round_*/*/last.ckpt")
        )
        assert stages == ["round_000/classifier", "round_001/classifier", "round_003/segment"]

    def test_the_most_uncertain_are_asked(self, finished):
        """Entropies of all open images, computed one by one from the checkpoint."""
        root, _, run = finished
        for round in (0, 1):
            classifier = build_classifier(METHOD.classifier, None, len(SCENES))
            weights = state_of(root, round, "classifier")["state_dict"]
            classifier.load_state_dict({k.removeprefix("network."): v for k, v in weights.items()})
            classifier.eval()
            known = {i for r in range(round + 1) for i in query_of(root, r).image.tolist()}
            doubt = {}
            for image in set(range(6)) - known:
                tensor, _ = run.datamodule.eval_transform(run.splits.train.image(image), {})
                with torch.no_grad():
                    p = classifier(tensor[None]).double().softmax(1)[0].numpy()
                doubt[image] = -(p * np.log(p)).sum()
            query = query_of(root, round + 1)
            best = sorted(doubt, key=doubt.get, reverse=True)[: len(query)]
            assert query.image.tolist() == best
            assert query.score == pytest.approx([doubt[i] for i in best], rel=1e-4)

    def test_the_classifier_goes_on_with_its_weights_and_new_momentum(self, finished):
        """Round 1 trained by hand, from the weights of round 0."""
        root, _, run = finished
        classifier = SceneClassifier(build_classifier(METHOD.classifier, None, 4), 0.01, "entropy")
        classifier.load_state_dict(state_of(root, 0, "classifier")["state_dict"])
        optimizer = torch.optim.SGD(classifier.parameters(), lr=0.01, momentum=0.9)
        known = sorted(i for r in (0, 1) for i in query_of(root, r).image.tolist())
        key, transform = (run.seed, 1, "classifier"), run.datamodule.train_transform
        for number, batch in enumerate(stream_batches(4, 2, range(4), key, whole_passes=True)):
            if number % 2 == 0:
                torch.manual_seed(derive(*key, "epoch", number // 2, 0))
            images = [transform(run.splits.train.image(known[n]), {}, s)[0] for n, s in batch]
            scene = torch.tensor([known[n] % 4 for n, _ in batch])
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(classifier.network(torch.stack(images)), scene
                                              ).backward()  # fmt: skip
            optimizer.step()
        check_same(state_of(root, 1, "classifier")["state_dict"], classifier.state_dict())


def check_same(stored, own):
    assert stored.keys() == own.keys()
    for name, value in stored.items():
        torch.testing.assert_close(own[name], value, rtol=1e-4, atol=1e-6, msg=name)


def three_streams(run, key, numbers, size=2, rank=0, world=1, labelled=None):
    """Batches of the adversarial stage, put together by hand."""
    pool, transform = run.pool, run.datamodule.train_transform
    masks = [a for a in pool.history if a.masks is not None]
    labelled = sorted(int(i) for a in masks for i in a.image)
    others = sorted(set(range(6)) - set(labelled)) or labelled
    iterators = {
        name: stream_batches(len(images), size, numbers, (*key, name), rank, world)
        for name, images in
        (("labelled", labelled), ("unlabelled", others), ("real", labelled))
    }  # fmt: skip
    for chosen in zip(*iterators.values(), strict=True):
        made = {}
        for name, batch in zip(iterators, chosen, strict=True):
            items = []
            for number, seed in batch:
                image = (others if name == "unlabelled" else labelled)[number]
                maps = {"inside": np.ones((32, 48), np.uint8)}
                if name != "unlabelled":
                    maps = {"target": run.splits.train.truth(image)}
                pixels, moved = transform(run.splits.train.image(image), maps, seed)
                items.append({"index": image, "image": pixels, "maps": moved, "tables": {}})
            made[name] = collate(items)
        yield made


class TestAdversarialStage:
    def test_against_a_slow_loop(self, finished):
        """The weights, and the learning rates of batches counted over both epochs."""
        root, _, run = finished
        key = (run.seed, 3, "segment")
        context = run.context(3)
        (stage,) = METHOD.stages(context)
        L.seed_everything(derive(*key), workers=True, verbose=False)
        module = stage.module().train()
        updates = module.configure_optimizers()
        start = [[group["lr"] for group in update.param_groups] for update in updates]
        passed = void = padding = 0
        for number, batch in enumerate(three_streams(run, key, range(4))):
            if number % 2 == 0:
                torch.manual_seed(derive(*key, "epoch", number // 2, 0))
            rates = stepped_poly_lr(number, 1.0, 4), poly_lr(number, 4, 1.0)
            for update, rate, first in zip(updates, rates, start, strict=True):
                for group, lr in zip(update.param_groups, first, strict=True):
                    group["lr"] = rate * lr
            rules = replace(FIXED, gate=0.45, self_training_start=-1)
            made = batches_of(batch)
            result = s4gan_step(module.network, module.discriminator, *updates, made, number, rules)
            passed += int(result.passed.sum())
            void += int((made.labels == VOID).sum())
            padding += int((~made.inside).sum())
        assert passed, "self-training took part"
        assert void
        assert padding, "some image was scaled below the crop"
        stored = state_of(root, 3, "segment")
        check_same(stored["state_dict"], module.state_dict())
        kept = [[g["lr"] for g in state["param_groups"]] for state in stored["optimizer_states"]]
        assert kept == [pytest.approx([g["lr"] for g in u.param_groups]) for u in updates]
        assert kept[1][0] == pytest.approx(1e-4 * 0.25**0.9)

    def test_what_it_logs(self, finished):
        root, *_ = finished
        with next((root / "round_003/segment/log").glob("*/metrics.csv")).open() as file:
            rows = list(csv.DictReader(file))
        assert [row["step"] for row in rows] == ["0", "1", "2", "3"]
        names = ("passed", "score_of_predicted", "score_of_real")
        shares = [float(row[f"share/{name}"]) for row in rows for name in names]
        assert all(0 <= share <= 1 for share in shares)

    def test_numbered_checkpoints(self, tmp_path):
        method = replace(RANDOM, checkpoint_every=2)
        drive(als4gan_run(tmp_path, method, rounds=1))
        folder = tmp_path / "round_000/segment/checkpoints"
        assert sorted(p.name for p in folder.iterdir()) == [
            "batch_000002.ckpt",
            "batch_000004.ckpt",
        ]
        last = torch.load(folder / "batch_000004.ckpt", weights_only=True)
        stored = state_of(tmp_path, 0, "segment")
        assert "optimizer_states" not in last
        assert last["alseg"]["network_at"] == "network"
        for name, value in stored["state_dict"].items():
            assert torch.equal(last["state_dict"][name], value)
        early = torch.load(folder / "batch_000002.ckpt", weights_only=True)["state_dict"]
        assert any(not torch.equal(early[name], v) for name, v in last["state_dict"].items())

    def test_gradients_are_not_clipped_silently(self, tmp_path):
        run = als4gan_run(tmp_path, RANDOM, rounds=1, gradient_clip=1.0)
        with pytest.raises(UserError, match=r"trainer.gradient_clip is 1\.0, but stage segment"):
            drive(run)


class TestStreams:
    def loader(self, finished):
        _, _, run = finished
        context = run.context(3)
        (stage,) = METHOD.stages(context)
        supervision = stage.supervision()
        return run, stage, supervision

    def test_no_stream_without_labels_reaches_a_mask(self, finished, monkeypatch):
        run, _, supervision = self.loader(finished)
        stream = supervision.streams["unlabelled"]
        masked = set(run.pool.images(("mask",)).tolist())
        assert not masked & set(stream.images.tolist())
        assert len(stream.images) + len(masked) == 6

        def refuse(*args):
            raise AssertionError("a mask was read")

        monkeypatch.setattr(LabelPool, "render", refuse)
        monkeypatch.setattr(ToyImages, "scene", refuse)
        items = TrainItems(run.splits.train, stream, run.datamodule.train_transform)
        item = items.item(0, 7)
        assert set(item["maps"]) == {"inside"}
        assert not item["tables"]
        assert not any(isinstance(part, LabelPool | Answers) for part in vars(stream).values())

    def test_each_has_an_order_of_its_own_that_goes_on(self, finished):
        run, stage, supervision = self.loader(finished)
        long = replace(stage.fit, steps=12, epoch_steps=12)
        run.datamodule.begin_fit(long, supervision, (0, 3, "segment"))
        trainer = L.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
        run.datamodule.trainer = trainer
        batches = [batch for batch, *_ in iter(run.datamodule.train_dataloader())]
        assert len(batches) == 12
        orders = {name: [batch[name]["index"].tolist() for batch in batches] for name in batches[0]}
        assert orders["labelled"] != orders["real"]
        for name, order in orders.items():
            flat = [image for batch in order for image in batch]
            images = sorted(supervision.streams[name].images.tolist())
            assert len(images) == 3
            for lap in range(len(flat) // 3):
                assert sorted(flat[3 * lap : 3 * lap + 3]) == images
        again = [batch for batch, *_ in iter(run.datamodule.train_dataloader())]
        for one, two in zip(batches, again, strict=True):
            for name in one:
                assert torch.equal(one[name]["image"], two[name]["image"])

    def test_with_all_images_labelled_all_are_unlabelled_too(self, tmp_path):
        method = replace(RANDOM, ratio=1.0)
        run = als4gan_run(tmp_path, method, rounds=1)
        buy(run, 0)
        context = run.context(0)
        streams = method.stages(context)[0].supervision().streams
        assert streams["unlabelled"].images.tolist() == list(range(6))
        assert streams["labelled"].images.tolist() == list(range(6))


class TestKilled:
    @pytest.mark.parametrize("at", [1, 4])
    def test_inside_the_adversarial_stage(self, finished, tmp_path, monkeypatch, at):
        """In the first epoch, and after its checkpoint."""
        root, *_ = finished
        with monkeypatch.context() as patch:
            at_call(patch, S4GANModule, "training_step", at)
            with pytest.raises(Killed):
                drive(als4gan_run(tmp_path / "run"))
        drive(als4gan_run(tmp_path / "run"))
        assert bought(tmp_path / "run") == bought(root)
        assert same_weights(tmp_path / "run", root)

    @pytest.mark.parametrize("at", [5, 11, 13])
    def test_before_any_write(self, finished, tmp_path, monkeypatch, at):
        """In round 1, in the round without a stage, and in the last one."""
        import alseg.active.ledger

        root, rows, _ = finished
        write, count = alseg.active.ledger.write_atomic, 0

        def cut(*args):
            nonlocal count
            count += 1
            if count == at:
                raise Killed
            write(*args)

        with monkeypatch.context() as patch:
            patch.setattr(alseg.active.ledger, "write_atomic", cut)
            patch.setattr("alseg.labels.tables.write_atomic", cut)
            with pytest.raises(Killed):
                drive(als4gan_run(tmp_path / "run"))
        again = drive(als4gan_run(tmp_path / "run"))
        assert bought(tmp_path / "run") == bought(root)
        assert same_weights(tmp_path / "run", root)
        assert [row["miou"] for row in again] == [row["miou"] for row in rows]

    def test_inside_the_classifier(self, finished, tmp_path, monkeypatch):
        root, *_ = finished
        with monkeypatch.context() as patch:
            # round 0 has two batches; in round 1, after an epoch
            at_call(patch, SceneClassifier, "loss", 2 + 3)
            with pytest.raises(Killed):
                drive(als4gan_run(tmp_path / "run"))
        drive(als4gan_run(tmp_path / "run"))
        assert bought(tmp_path / "run") == bought(root)
        assert same_weights(tmp_path / "run", root)


class TestChoices:
    def test_without_scenes_the_class_that_covers_most_is_asked(self, tmp_path):
        run = als4gan_run(tmp_path, scenes=())
        rows = drive(run)
        answers = [Ledger(tmp_path).answers(round) for round in range(ROUNDS)]
        assert [a.answer for a in answers] == ["dominant"] * 3 + ["mask"]
        for said in answers[:3]:
            for image, label in zip(said.image.tolist(), said.label.tolist(), strict=True):
                counts = np.bincount(run.splits.train.truth(image).ravel(), minlength=256)
                assert label == counts.argmax()
        assert rows[-1]["class_labels"] == 5
        context = run.context(ROUNDS - 1)
        (stage,) = METHOD.stages(context)
        labelled = stage.supervision().streams["labelled"]
        assert labelled.images.tolist() == sorted(answers[3].image.tolist())
        for image in labelled.images.tolist():
            target = labelled(image).maps["target"]
            assert np.array_equal(target, run.splits.train.truth(image))

    def test_random_is_one_round_of_as_many_masks(self, tmp_path):
        run = als4gan_run(tmp_path, RANDOM, rounds=1)
        rows = drive(run)
        assert (rows[0]["masks"], rows[0]["class_labels"]) == (3, 0)
        assert {p.parent.name for p in tmp_path.glob("round_*/*/last.ckpt")} == {"segment"}
        other = als4gan_run(tmp_path / "other", RANDOM, rounds=1, seed=1)
        buy(other, 0)
        assert set(other.pool.images().tolist()) != set(run.pool.images().tolist())

    def test_a_list_takes_the_place_of_the_choice(self, tmp_path):
        run = als4gan_run(tmp_path, METHOD, rounds=1)
        run.listed = np.array([1, 4])
        rows = drive(run)
        assert (rows[0]["masks"], rows[0]["class_labels"]) == (2, 0)
        answers = Ledger(tmp_path).answers(0)
        assert (answers.image.tolist(), answers.answer) == ([1, 4], "mask")

    @pytest.mark.parametrize("diversity", ["kmeans", "stratified"])
    def test_diversity_keeps_like_images_apart(self, tmp_path, diversity, monkeypatch):
        """Two clusters of outputs, or two predicted classes: the most uncertain one of either."""
        outputs = torch.zeros(6, 1000)
        outputs[:, 0] = torch.tensor([0.0, 0.1, 0.2, 9.0, 9.1, 9.2])
        logits = torch.zeros(6, 4)  # the last layer is replaced as well: images 0 to 2 are doubtful
        logits[:, 0] = torch.tensor([0.5, 0.6, 0.7, 0.0, 0.0, 0.0])
        logits[:, 1] = torch.tensor([0.0, 0.0, 0.0, 3.5, 3.3, 3.4])
        step = SceneClassifier.predict_step

        def known(self, batch, number):
            index = batch["index"]
            self.network = torch.nn.Sequential(_InTurn(outputs[index]), _InTurn(logits[index]))
            return step(self, batch, number)

        monkeypatch.setattr(SceneClassifier, "predict_step", known)
        run = als4gan_run(tmp_path, replace(METHOD, diversity=diversity))
        drive(run)
        first, asked = query_of(tmp_path, 0).image.tolist(), query_of(tmp_path, 1).image.tolist()
        left = sorted(set(range(6)) - set(first))
        doubtful = [i for i in (0, 1, 2) if i in left], [i for i in (4, 5, 3) if i in left]
        assert asked == [images[0] for images in doubtful if images]

    def test_all_that_is_asked_in_the_last_round_may_be_more_than_is_used(self, tmp_path):
        method = replace(METHOD, whole_last_round=True)
        drive(als4gan_run(tmp_path, method))
        sizes = [len(Ledger(tmp_path).answers(round)) for round in range(ROUNDS)]
        assert sizes == [2, 2, 2, 3]

    def test_answers_of_void_do_not_train(self, tmp_path):
        run = als4gan_run(tmp_path)
        buy(run, 0)
        said = run.pool.history[0]
        run.pool = LabelPool(run.pool.sizes, 3, run.pool.budget, list(run.pool.maps.values()))
        run.pool.commit(replace(said, label=np.array([VOID, 2], np.uint8)))
        context = run.context(0)
        (stage,) = METHOD.stages(context)
        supervision = stage.supervision()
        assert supervision.images.tolist() == [int(said.image[1])]
        assert supervision(int(said.image[1])).tables["scene"].tolist() == [2]


class _InTurn(torch.nn.Module):
    """Returns one row after another."""

    def __init__(self, rows):
        super().__init__()
        self.rows = iter(rows.split(1))

    def forward(self, _):
        return next(self.rows)


class TestOptions:
    def test_profiles(self):
        reference = replace(METHOD, profile="reference", gate=None, self_training_start=1000)
        assert reference.rules() == REFERENCE
        fixed = replace(reference, profile="fixed")
        assert fixed.rules() == FIXED
        assert replace(fixed, hide_padding=False).rules() == replace(FIXED, hide_padding=False)
        own = replace(reference, nan_without_labels=False, gate=0.3).rules()
        assert own == replace(REFERENCE, nan_without_labels=False, gate=0.3)
        whole, cut = (replace(m, ratio=0.05, beta=0.9)._plan(1679) for m in (reference, fixed))
        assert (whole.round_sizes, cut.round_sizes) == ((53, 53), (53, 31))
        randoms = [replace(m, strategy="random", ratio=0.05) for m in (fixed, reference)]
        assert [m._plan(1679).masks for m in randoms] == [84, 83]

    def test_the_reference_forgets_running_statistics(self, tmp_path):
        papers = Network("DeepLabV2", "resnet101", None)
        reference = replace(METHOD, profile="reference")
        context = als4gan_run(tmp_path, rounds=ROUNDS).context(ROUNDS - 1)

        def named(method, network):
            """The network the adversarial stage builds, before it is built."""
            stage = method.stages(replace(context, network=network))[0]
            return stage.named()

        assert named(reference, papers).options == {"bn_momentum": 0.999}
        assert named(METHOD, papers) is papers
        own = replace(papers, options={"bn_momentum": 0.5})
        assert named(reference, own) is own
        other = replace(papers, encoder="resnet18")
        assert named(reference, other) is other

    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ({"ratio": 0}, "method.ratio is 0"),
            ({"alpha": 1.5}, "method.alpha is 1.5"),
            ({"strategy": "entropie"}, "did you mean 'entropy'"),
            ({"learner": "scene"}, "did you mean 'scenes'"),
            ({"profile": "paper"}, "unknown method.profile"),
            ({"gate": 1.1}, "method.gate is 1.1"),
            ({"steps": 0}, "method.steps is 0"),
            ({"decay_steps": 0}, "method.decay_steps is 0"),
            ({"checkpoint_every": -1}, "method.checkpoint_every is -1"),
            ({"self_training_weight": float("inf")}, "method.self_training_weight is inf"),
            ({"diversity": "spread"}, "method.diversity=spread keeps regions of one image apart"),
            ({"diversity": "power", "strategy": "random"}, "strategy=random has none"),
        ],
    )
    def test_what_cannot_be_is_refused(self, option, message):
        with pytest.raises(UserError, match=message):
            Als4gan(**option)

    @pytest.mark.parametrize(
        ("option", "images", "budget", "message"),
        [
            ({"learner": "scenes"}, ToyImages(6), {}, "give method.learner=derived"),
            ({"classifier": "resnet19"}, ToyImages(6), {}, "unknown method.classifier"),
            ({"classifier_weights": "no.pt"}, ToyImages(6), {}, "no.pt cannot be loaded"),
            ({"ratio": 0.1}, ToyImages(6), {}, "start from no image"),
            ({"alpha": 1.0, "ratio": 0.7}, ToyImages(6), {}, "lower ratio or alpha"),
            ({}, ToyImages(6), {"amount": 2.0}, "leave out budget.amount"),
            ({}, ToyImages(6), {"axis": "clicks"}, "leave out budget.amount"),
        ],
    )
    def test_what_does_not_fit_the_images_is_refused(self, option, images, budget, message):
        method = replace(METHOD, **option)
        with pytest.raises(UserError, match=message):
            method.check(images, Budget(**{"amount": 3.0, "axis": "units", **budget}))

    def test_rounds_are_the_methods_own(self, tmp_path):
        images = ToyImages(6)
        assert METHOD.rounds_of(images) == ROUNDS
        assert RANDOM.rounds_of(images) == 1
        with pytest.raises(UserError, match="rounds is 3, but what method=als4gan buys takes 4"):
            drive(als4gan_run(tmp_path, rounds=3))

    def test_other_regions_than_images_are_refused(self, tmp_path):
        with pytest.raises(UserError, match="asks about images, and these regions are patches"):
            drive(als4gan_run(tmp_path, kind="patch"))

    def test_batches_too_small_for_a_network_are_refused(self, tmp_path):
        method = replace(RANDOM, batch_size=1)
        run = als4gan_run(
            tmp_path, method, rounds=1, network=Network("DeepLabV3Plus", "resnet18", None)
        )
        with pytest.raises(UserError, match=r"method\.batch_size is 1, but this network"):
            drive(run)


class TestClassifier:
    def test_keeps_the_1000_outputs(self):
        network = build_classifier("tu-resnet10t", None, 5)
        assert [part.out_features for part in network.modules() if hasattr(part, "out_features")
                ] == [1000, 5]  # fmt: skip
        assert network(torch.zeros(2, 3, 40, 40)).shape == (2, 5)

    def test_takes_weights_from_a_file(self, tmp_path):
        backbone = build_classifier("tu-resnet10t", None, 5)[0]
        torch.save(backbone.state_dict(), tmp_path / "w.pt")
        again = build_classifier("tu-resnet10t", str(tmp_path / "w.pt"), 3)[0]
        for name, value in backbone.state_dict().items():
            assert torch.equal(again.state_dict()[name], value)
        with pytest.raises(UserError, match="cannot be loaded"):
            build_classifier("tu-resnet14t", str(tmp_path / "w.pt"), 3)

    def test_the_references_are_torchvisions(self):
        network = build_classifier("resnet50", None, 21)
        assert type(network[0]).__module__.startswith("torchvision")
        assert sum(p.numel() for p in network.parameters()) == 25_557_032 + 21 * 1001


#: Without what depends on how a batch is shared: dropout, batch norms, means of means.
EVEN = replace(
    RANDOM, ratio=0.7, matching_weight=0.0, self_training_weight=0.0, batch_size=4,
    weight_decay=0.0, lr=1e-3,
)  # fmt: skip


class EvenImages(ToyImages):
    """Every image has a black and a white pixel, so that all batches span the same range."""

    def truth(self, index):
        labels = super().truth(index)
        labels[labels == VOID] = 0
        return labels

    def image(self, index):
        pixels = super().image(index)
        pixels[0, 0], pixels[0, 1] = 0, 255
        return pixels


def drive_even(root: Path, devices: int) -> None:
    """A run whose result does not depend on the number of processes."""
    from alseg.data.transforms import TrainTransform
    from alseg.methods.als4gan import module

    # all its norms are batch norms, which stand still below
    network = Network(
        "Unet", "resnet18", None, {"encoder_depth": 3, "decoder_channels": [16, 16, 16]}
    )
    run = als4gan_run(root, EVEN, rounds=1, devices=devices, network=network)
    run.splits = DataSplits(EvenImages(6), run.splits.val)
    run.datamodule.splits = run.splits
    maps = run.datamodule.train_transform.pad_maps
    run.datamodule.train_transform = TrainTransform((32, 48), (1.0, 1.0), pad_maps=maps)

    class Plain(module.S4GANModule):
        def on_train_start(self):
            super().on_train_start()
            self.discriminator.dropout.p = 0.0
            for part in self.network.modules():
                if isinstance(part, torch.nn.Dropout2d):
                    part.p = 0.0

        def on_train_epoch_start(self):
            for part in self.network.modules():
                if isinstance(part, torch.nn.BatchNorm2d):
                    part.eval()

        def on_train_epoch_end(self):
            rank = self.trainer.global_rank
            torch.save(self.state_dict(), root / f"rank_{rank}_{self.trainer.current_epoch}.pt")

    module.S4GANModule = Plain
    drive(run)


@pytest.mark.slow
def test_two_processes_stay_equal_and_compute_what_one_computes(tmp_path):
    for devices in (1, 2):
        folder = tmp_path / str(devices)
        folder.mkdir()
        result = subprocess.run(
            [sys.executable, "-m", __name__, str(folder), str(devices)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert result.returncode == 0, result.stdout + result.stderr
    for epoch in (0, 1):
        one = torch.load(tmp_path / "1" / f"rank_0_{epoch}.pt", weights_only=True)
        ranks = [torch.load(tmp_path / "2" / f"rank_{r}_{epoch}.pt", weights_only=True)
                 for r in (0, 1)]  # fmt: skip
        for name, value in one.items():
            assert torch.equal(ranks[0][name], ranks[1][name]), name
            torch.testing.assert_close(ranks[0][name], value, rtol=1e-3, atol=1e-5, msg=name)
    start = torch.load(tmp_path / "1" / "rank_0_0.pt", weights_only=True)
    moved = {
        name.split(".")[0] for name, value in one.items() if not torch.equal(start[name], value)
    }
    assert moved >= {"network", "discriminator"}


if __name__ == "__main__":
    drive_even(Path(sys.argv[1]), int(sys.argv[2]))
