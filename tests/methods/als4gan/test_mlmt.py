"""The mean teacher that corrects the segmenter of ALS4GAN."""

import copy
import csv
import math
from dataclasses import replace

import lightning as L
import numpy as np
import pytest
import torch
from torch import nn

from alseg.active.driver import buy, drive
from alseg.core.errors import UserError
from alseg.core.images import VOID
from alseg.core.seeds import derive
from alseg.data.datamodule import collate
from alseg.data.samplers import batches as stream_batches
from alseg.data.transforms import TrainTransform
from alseg.inference.trained import load_segmenter
from alseg.methods.als4gan import mean_teacher
from alseg.methods.als4gan.classifier import build_classifier
from alseg.methods.als4gan.mean_teacher import MeanTeacher, strong_view, weak_view
from alseg.methods.als4gan.method import Als4gan
from alseg.methods.als4gan.mlmt import classes_present
from tests.active.test_driver import same_weights
from tests.kills import Killed, at_call
from tests.methods.als4gan.test_method import (
    METHOD,
    RANDOM,
    ROUNDS,
    als4gan_run,
    check_same,
    state_of,
)
from tests.toys import ToyImages

#: 3 of 6 images have no mask: two batches per pass.
OPTIONS = {
    "mlmt": True, "mlmt_passes": 3, "mlmt_batch_size": 1, "mlmt_unlabelled": 2, "mlmt_lr": 0.01,
    "mlmt_burn_in": 0, "mlmt_threshold": 0.5,
}  # fmt: skip
MEAN_TEACHER = replace(RANDOM, **OPTIONS)


def mlmt_run(root, method=MEAN_TEACHER, rounds=1):
    """Crops so large that the batch norms of a single image have something to count."""
    run = als4gan_run(root, method, rounds=rounds)
    maps = run.datamodule.train_transform.pad_maps
    run.datamodule.train_transform = TrainTransform((96, 96), pad_maps=maps)
    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    root = tmp_path_factory.mktemp("mlmt") / "run"
    run = mlmt_run(root)
    return root, drive(run), run


MLMT, SEGMENT = "mlmt", "segment"


def module_of(run, name=MLMT):
    context = run.context(0)
    stage = next(s for s in run.method.stages(context) if s.name == name)
    return stage, stage.module()


def trained(finished, name=MLMT):
    root, _, run = finished
    _, module = module_of(run, name)
    module.load_state_dict(state_of(root, 0, name)["state_dict"])
    return module.eval()


def streams(run, key, numbers):
    """Batches of the stage, put together by hand."""
    transform = run.datamodule.train_transform
    labelled = sorted(run.pool.images(("mask",)).tolist())
    others = sorted(set(range(6)) - set(labelled))
    names = ("labelled", "unlabelled_1", "unlabelled_2")
    parts = [stream_batches(3, 1, numbers, (*key, name)) for name in names]
    for chosen in zip(*parts, strict=True):
        made = {}
        for name, batch in zip(names, chosen, strict=True):
            items = []
            for number, seed in batch:
                image = (labelled if name == "labelled" else others)[number]
                maps = {"target": run.splits.train.truth(image)} if name == "labelled" else {}
                pixels, moved = transform(run.splits.train.image(image), maps, seed)
                items.append({"index": image, "image": pixels, "maps": moved, "tables": {}})
            made[name] = collate(items)
        yield made


class TestTraining:
    def test_against_a_slow_loop(self, finished):
        """Loss, rates and teacher written out; two of three passes with unlabelled images."""
        root, _, run = finished
        key = (run.seed, 0, MLMT)
        L.seed_everything(derive(*key), workers=True, verbose=False)
        stage, module = module_of(run)
        assert (stage.fit.steps, stage.fit.epochs) == (6, 3)
        student, teacher = module.student, module.teacher
        for one, two in zip(student.parameters(), teacher.parameters(), strict=True):
            assert torch.equal(one, two)
        update = torch.optim.SGD(student.parameters(), 0.01, 0.9, weight_decay=1e-5, nesterov=True)
        mean, std = (
            torch.tensor(getattr(run.datamodule.eval_transform, n))[:, None, None]
            for n in ("mean", "std")
        )
        student.train()
        teacher.train()
        losses = []
        for number, batch in enumerate(streams(run, key, range(6))):
            epoch = number // 2
            if number % 2 == 0:
                torch.manual_seed(derive(*key, "epoch", epoch, 0))
            low = 0.01 / 300
            rate = low + (0.01 - low) * (1 + math.cos(math.pi * epoch / 3)) / 2
            update.param_groups[0]["lr"] = rate
            others = torch.cat([batch[f"unlabelled_{n}"]["image"] for n in (1, 2)])
            p = student(weak_view(batch["labelled"]["image"])).sigmoid()
            strong = student(strong_view(others, mean, std))
            weak = teacher(weak_view(others)).detach()
            seen = {c for c in range(3) if (batch["labelled"]["target"] == c).any()}
            loss = sum(-(p[0, c] if c in seen else 1 - p[0, c]).log() for c in range(3)) / 3
            cosine = torch.nn.functional.cosine_similarity(strong, weak)
            loss = loss + (0, 2 / 3, 1)[epoch] * (1 - cosine).mean()
            update.zero_grad()
            loss.backward()
            update.step()
            losses.append(float(loss))
            share = (number + 1) / (number + 2)
            for own, new in zip(teacher.parameters(), student.parameters(), strict=True):
                own.data = share * own.data + (1 - share) * new.data
        with next((root / "round_000/mlmt/log").glob("*/metrics.csv")).open() as file:
            logged = [float(row["train/loss"]) for row in csv.DictReader(file)]
        assert logged == pytest.approx(losses, rel=1e-3)
        stored = state_of(root, 0, MLMT)
        for name, own in (("student", student), ("teacher", teacher)):
            kept = {
                k.removeprefix(f"{name}."): v
                for k, v in stored["state_dict"].items()
                if k.startswith(f"{name}.")
            }
            check_same(kept, own.state_dict())

    def test_the_segmenter_stands_still(self, finished):
        """Its running statistics included, which those of student and teacher do not."""
        root, *_ = finished
        before = state_of(root, 0, SEGMENT)["state_dict"]
        after = state_of(root, 0, MLMT)["state_dict"]
        own = {name for name in after if name.startswith("network.")}
        assert own == {name for name in before if name.startswith("network.")}
        assert any("running_mean" in name for name in own)
        for name in own:
            assert torch.equal(before[name], after[name]), name
        means = [name for name in after if name.startswith("teacher.") and "running_mean" in name]
        assert all(after[name].any() for name in means)
        assert any(
            not torch.equal(after[name], after[name.replace("teacher.", "student.")])
            for name in means
        )

    def test_unlabelled_streams_have_orders_of_their_own_and_no_mask(self, finished):
        _, _, run = finished
        stage, _ = module_of(run)
        parts = stage.supervision().streams
        assert list(parts) == ["labelled", "unlabelled_1", "unlabelled_2"]
        masked = set(parts["labelled"].images.tolist())
        for name in ("unlabelled_1", "unlabelled_2"):
            assert set(parts[name].images.tolist()) == set(range(6)) - masked
            assert set(parts[name](0).maps) == {"inside"}
        seen = list(streams(run, (run.seed, 0, MLMT), range(12)))
        orders = [[int(b[f"unlabelled_{n}"]["index"]) for b in seen] for n in (1, 2)]
        assert orders[0] != orders[1]

    @pytest.mark.parametrize("at", [1, 4])
    def test_killed_and_resumed(self, finished, tmp_path, monkeypatch, at):
        """In the first pass, and after a checkpoint in the middle of the second."""
        root, rows, _ = finished
        with monkeypatch.context() as patch:
            at_call(patch, MeanTeacher, "training_step", at)
            with pytest.raises(Killed):
                drive(mlmt_run(tmp_path / "run"))
        again = drive(mlmt_run(tmp_path / "run"))
        assert same_weights(tmp_path / "run", root)
        names = ("miou", "miou_segment")
        assert [again[0][name] for name in names] == [rows[0][name] for name in names]


def slow_miou(images, predict):
    """Mean over the classes that are in truth or prediction."""
    both, either = np.zeros(3), np.zeros(3)
    for index in range(len(images)):
        truth, labels = images.truth(index), predict(index)
        for c in range(3):
            said, is_so = (labels == c) & (truth != VOID), truth == c
            both[c] += (said & is_so).sum()
            either[c] += (said | is_so).sum()
    return (both[either > 0] / either[either > 0]).mean()


class TestEvaluation:
    def predictions(self, run, module, threshold=None):
        """Class by class, the best of those that are on; and how many were off."""
        off = []

        @torch.no_grad()
        def predict(index):
            pixels = run.datamodule.eval_transform(run.splits.val.image(index), {})[0][None]
            scores, allowed = module.network(pixels)[0, :3], range(3)
            if threshold is not None:
                present = module.teacher(pixels)[0].sigmoid()
                allowed = [c for c in range(3) if present[c] >= threshold] or range(3)
                off.append(3 - len(allowed))
            best = np.full(scores.shape[1:], -1)
            highest = np.full(scores.shape[1:], -np.inf)
            for c in allowed:
                higher = scores[c].numpy() > highest
                best[higher] = c
                highest[higher] = scores[c].numpy()[higher]
            return best

        return predict, off

    def test_both_numbers_are_columns(self, finished):
        root, rows, run = finished
        module = trained(finished)
        plain, _ = self.predictions(run, module)
        fused, _ = self.predictions(run, module, 0.5)
        val = run.splits.val
        assert rows[0]["miou_segment"] == pytest.approx(slow_miou(val, plain), abs=1e-6)
        assert rows[0]["miou"] == pytest.approx(slow_miou(val, fused), abs=1e-6)
        with (root / "rounds.csv").open() as file:
            (row,) = csv.DictReader(file)
        assert float(row["miou_segment"]) == pytest.approx(rows[0]["miou_segment"], abs=1e-5)

    @pytest.mark.parametrize(("off_in", "off"), [(0, 0), (1, 1), (2, 2), (None, 0)])
    def test_absent_classes_are_switched_off(self, finished, off_in, off):
        """The class predicted most, in so many of two images; or all classes, which stay then."""
        _, _, run = finished
        module = trained(finished)
        plain, _ = self.predictions(run, module)
        top = int(np.bincount(np.concatenate([plain(n).ravel() for n in (0, 1)])).argmax())
        images, logits = [], []
        for index in range(2):
            pixels = run.datamodule.eval_transform(run.splits.val.image(index), {})[0][None]
            images.append(pixels)
            with torch.no_grad():
                logits.append(module.teacher(pixels)[0])
        shift = torch.full((3,), -30.0 if off_in is None else 30.0)
        if off_in is not None:
            shift[top] = (30.0, -(logits[0] + logits[1])[top] / 2, -30.0)[off_in]
        module.teacher[1].bias.data += shift
        for index, pixels in enumerate(images):
            truth = torch.from_numpy(run.splits.val.truth(index))[None].long()
            with torch.no_grad():
                module.test_step({"image": pixels, "target": truth}, index)
        predict, switched = self.predictions(run, module, 0.5)
        wanted = slow_miou(run.splits.val, predict)
        assert float(module.iou.compute().nanmean()) == pytest.approx(wanted, abs=1e-6)
        assert sum(switched) == off
        assert (wanted != pytest.approx(slow_miou(run.splits.val, plain), abs=1e-6)) == (off > 0)

    def test_the_checkpoint_is_used_without_the_teacher(self, finished):
        root, *_ = finished
        networks = [
            load_segmenter(root / f"round_000/{stage}/last.ckpt", "cpu").network.state_dict()
            for stage in (SEGMENT, MLMT)
        ]
        for name, value in networks[0].items():
            assert torch.equal(networks[1][name], value)

    def test_it_starts_from_the_weights_that_were_kept(self, tmp_path):
        method = replace(MEAN_TEACHER, keep="best", mlmt_passes=1)
        drive(mlmt_run(tmp_path, method))
        best = torch.load(tmp_path / "round_000/segment/best.ckpt", weights_only=True)["state_dict"]
        after = state_of(tmp_path, 0, MLMT)["state_dict"]
        for name, value in best.items():
            if name.startswith("network."):
                assert torch.equal(after[name], value), name


class TestParts:
    def test_classes_of_label_maps(self):
        rng = np.random.default_rng(0)
        labels = rng.choice([0, 1, 2, 3, 4, VOID], (20, 2, 3)).astype(np.uint8)
        labels[0] = VOID
        present = classes_present(torch.from_numpy(labels), 5)
        assert not present[0].any()
        for row, one in zip(present, labels, strict=True):
            assert set(row.nonzero()[:, 0].tolist()) == set(one.ravel().tolist()) - {VOID}
        assert torch.equal(present, classes_present(torch.from_numpy(labels).long(), 5))

    def test_a_crop_without_labels_says_nothing(self, finished, monkeypatch):
        module = trained(finished)
        normalisation = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
        monkeypatch.setattr(MeanTeacher, "_normalisation", lambda *_: normalisation)
        monkeypatch.setattr(mean_teacher, "weak_view", lambda images: images)
        monkeypatch.setattr(mean_teacher, "strong_view", lambda images, *_: images)
        images = torch.rand(2, 3, 32, 48)
        target = torch.ones(2, 32, 48, dtype=torch.int64)
        target[0] = VOID
        others = {"unlabelled_1": {"image": torch.rand(2, 3, 32, 48)}}
        with torch.no_grad():
            both = module.loss({"labelled": {"image": images, "target": target}, **others}, 2)
            one = {"image": images[1:], "target": target[1:]}
            alone = module.loss({"labelled": one, **others}, 2)
        torch.testing.assert_close(both["loss"], alone["loss"])
        nothing = {"image": images, "target": torch.full_like(target, VOID)}
        module.student.zero_grad()
        without = module.loss({"labelled": nothing, **others}, 1)
        torch.testing.assert_close(without["loss"], without["consistency"] * 2 / 3)
        module.loss({"labelled": nothing, **others}, 0)["loss"].backward()
        assert all(p.grad is not None and not p.grad.any() for p in module.student.parameters())
        assert all(p.grad is None for p in module.teacher.parameters())

    def test_it_always_keeps_the_segmenter_in_evaluation_mode(self, finished):
        _, _, run = finished
        _, module = module_of(run)
        assert module.training
        for _ in range(2):
            assert not any(part.training for part in module.network.modules())
            assert all(part.training for part in module.teacher.modules())
            module.train()
        learning = {name for name, p in module.named_parameters() if p.requires_grad}
        assert {name.split(".")[0] for name in learning} == {"student"}

    def test_views(self, monkeypatch):
        torch.manual_seed(0)
        images = torch.randn(40, 3, 8, 9)
        views = weak_view(images)
        same = [torch.equal(v, i) for v, i in zip(views, images, strict=True)]
        mirrored = [torch.equal(v, i.flip(-1)) for v, i in zip(views, images, strict=True)]
        assert all(a != b for a, b in zip(same, mirrored, strict=True))
        assert 8 < sum(same) < 32
        mean, std = torch.tensor([0.5, 0.4, 0.3])[:, None, None], torch.full((3, 1, 1), 0.2)
        colors = torch.rand(1, 3, 16, 17).repeat(6, 1, 1, 1)
        strong = strong_view((colors - mean) / std, mean, std) * std + mean
        assert float(strong.min()) > -1e-5
        assert float(strong.max()) < 1 + 1e-5
        for one in range(6):
            assert not torch.allclose(strong[one], colors[one], atol=1e-3)
            assert not any(torch.allclose(strong[one], strong[n], atol=1e-3) for n in range(one))
        monkeypatch.setattr(mean_teacher, "_STRONG", lambda image: image)
        torch.testing.assert_close(strong_view(images.clamp(-1, 1), mean, std),
                                   images.clamp(-1, 1).maximum(-mean / std))  # fmt: skip


class TestOptions:
    def test_without_it_nothing_changes(self, tmp_path):
        run = als4gan_run(tmp_path, RANDOM, rounds=1)
        buy(run, 0)
        assert [stage.name for stage in RANDOM.stages(run.context(0))] == [SEGMENT]
        assert not Als4gan().mlmt

    def test_a_pass_goes_over_the_unlabelled_images(self, tmp_path):
        run = mlmt_run(tmp_path)
        buy(run, 0)
        for size, others, batches in ((1, 1, 3), (1, 2, 2), (1, 3, 1), (16, 5, 1)):
            method = replace(MEAN_TEACHER, mlmt_batch_size=size, mlmt_unlabelled=others)
            stage = method.stages(run.context(0))[-1]
            assert (stage.fit.steps, stage.fit.epoch_batches, stage.fit.epochs) == (
                3 * batches,
                batches,
                3,
            )

    def test_it_follows_the_rounds_of_the_classifier(self, tmp_path):
        """The stage of the last round alone; rounds before it have neither number."""
        method = replace(METHOD, **{**OPTIONS, "mlmt_passes": 1})
        rows = drive(mlmt_run(tmp_path, method, ROUNDS))
        stages = {str(p.parent.relative_to(tmp_path)) for p in tmp_path.glob("*/*/last.ckpt")}
        assert stages >= {"round_003/segment", "round_003/mlmt"}
        assert sum(name.endswith("mlmt") for name in stages) == 1
        with (tmp_path / "rounds.csv").open() as file:
            written = list(csv.DictReader(file))
        assert [row["miou_segment"] != "" for row in written] == [False, False, False, True]
        assert 0 <= rows[-1]["miou_segment"] <= 1

    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ({"mlmt_threshold": 2}, "method.mlmt_threshold is 2"),
            ({"mlmt_unlabelled": 0}, "method.mlmt_unlabelled is 0"),
            ({"mlmt_passes": 0}, "method.mlmt_passes is 0"),
            ({"mlmt_burn_in": -1}, "method.mlmt_burn_in is -1"),
        ],
    )
    def test_what_cannot_be_is_refused(self, option, message):
        with pytest.raises(UserError, match=message):
            Als4gan(**option)

    def test_weights_that_cannot_be_had_are_found_out_first(self, tmp_path):
        run = mlmt_run(tmp_path)
        images, budget = ToyImages(6), run.pool.budget
        MEAN_TEACHER.check(images, budget)
        lost = replace(MEAN_TEACHER, classifier_weights="no.pt")
        with pytest.raises(UserError, match=r"no\.pt cannot be loaded"):
            lost.check(images, budget)
        replace(lost, mlmt=False).check(images, budget)  # a random choice has no classifier

    def test_a_loss_that_is_not_finite_is_refused(self, tmp_path, monkeypatch):
        broken = {"loss": torch.tensor(float("nan")), "consistency": torch.tensor(0.0)}
        monkeypatch.setattr(MeanTeacher, "loss", lambda *_: broken)
        with pytest.raises(UserError, match=r"stage mlmt of Als4gan: the loss of .* is nan"):
            drive(mlmt_run(tmp_path))


def test_the_teacher_begins_as_its_student():
    network, student = nn.Conv2d(3, 3, 1), build_classifier("tu-resnet10t", None, 3)
    module = MeanTeacher(network, 3, student, 1, 0.1, 0, 0.2)
    start = copy.deepcopy(student.state_dict())
    student[1].weight.data += 1
    for name, value in start.items():
        assert torch.equal(module.teacher.state_dict()[name], value)
