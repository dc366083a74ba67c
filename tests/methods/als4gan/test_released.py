"""The classifier's own augmentation, and the mean teacher as it was released."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from alseg.active.driver import buy
from alseg.core.errors import UserError
from alseg.core.images import VOID
from alseg.methods.als4gan import mean_teacher
from alseg.methods.als4gan.mean_teacher import MeanTeacher, resized
from alseg.methods.als4gan.method import Als4gan
from tests.methods.als4gan.test_method import METHOD, RANDOM, als4gan_run
from tests.methods.als4gan.test_mlmt import MEAN_TEACHER, mlmt_run

RELEASED = replace(MEAN_TEACHER, mlmt_released=True, mlmt_batch_size=2)


class TestClassifier:
    def augment(self, tmp_path, **options):
        run = als4gan_run(tmp_path, replace(METHOD, **options))
        buy(run, 0)
        (stage,) = run.method.stages(run.context(0))
        return run, stage

    def test_it_has_an_augmentation_of_its_own(self, tmp_path):
        run, stage = self.augment(
            tmp_path, classifier_scale=(0.5, 1.6), classifier_scale_step=0.1, classifier_flip=1.0
        )
        assert stage.fit.augment == {"scale": (0.5, 1.6), "scale_step": 0.1, "flip": 1.0}
        shared = replace(run.datamodule.train_transform, scale=(1.0, 1.0), flip=0.0)
        image = run.splits.train.image(0)
        plain, _ = shared(image, {}, 0)
        own, _ = replace(shared, flip=stage.fit.augment["flip"])(image, {}, 0)
        assert torch.equal(own, plain.flip(-1))

    def test_by_default_that_of_the_segmenter(self, tmp_path):
        _, stage = self.augment(tmp_path)
        assert stage.fit.augment == {}

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"classifier_scale": (2.0, 1.0)}, r"classifier_scale is \[2.0, 1.0\]"),
            ({"classifier_scale_step": 0.1}, "classifier_scale_step is 0.1"),
            ({"classifier_flip": 2.0}, "classifier_flip is 2.0"),
        ],
    )
    def test_what_cannot_be_is_refused(self, options, message):
        with pytest.raises(UserError, match=message):
            Als4gan(**options)


class TestMeanTeacher:
    def test_a_pass_goes_over_the_labelled_images_whole(self, tmp_path):
        run = mlmt_run(tmp_path, RELEASED)
        buy(run, 0)
        labelled = len(run.pool.images(("mask",)))
        stage = run.method.stages(run.context(0))[-1]
        assert stage.fit.epoch_batches == -(-labelled // 2)
        assert stage.fit.augment == {"crop": (32, 48), "scale": (1.0, 1.0)}
        module = stage.module()
        assert (module.side, module.teacher_sees_all) == (320, True)

    def test_an_image_has_the_classes_of_its_whole_mask(self, tmp_path):
        run = mlmt_run(tmp_path, RELEASED)
        buy(run, 0)
        supervision = run.method.stages(run.context(0))[-1].supervision().streams["labelled"]
        for image in supervision.images.tolist():
            truth = run.splits.train.truth(image)
            wanted = [bool((truth == c).any()) for c in range(3)]
            assert supervision(image).tables["present"].tolist() == wanted

    def test_the_profile_decides_where_it_is_left_out(self):
        def released(**options):
            method = Als4gan(**options)
            return method.as_reference(method.mlmt_released)

        assert not released()
        assert released(profile="reference")
        assert not released(profile="reference", mlmt_released=False)
        assert released(mlmt_released=True)

    def test_images_of_several_sizes_are_refused(self, tmp_path):
        run = mlmt_run(tmp_path, RELEASED)
        buy(run, 0)
        run.pool.sizes[0] = 16, 16
        with pytest.raises(UserError, match="one size"):
            run.method.stages(run.context(0))
        replace(RANDOM, mlmt=True).stages(run.context(0))

    def test_the_loss(self, monkeypatch):
        """Whole classes count, not those of the crop; the teacher's statistics see all images."""
        torch.manual_seed(0)
        normalisation = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
        monkeypatch.setattr(MeanTeacher, "_normalisation", lambda *_: normalisation)
        monkeypatch.setattr(mean_teacher, "weak_view", lambda images: images)
        monkeypatch.setattr(mean_teacher, "strong_view", lambda images, *_: images)
        student = nn.Sequential(nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        made = MeanTeacher(nn.Conv2d(3, 3, 1), 3, student, 10, 0.1, 0, 0.2, side=4,
                           teacher_sees_all=True)  # fmt: skip
        labelled = torch.rand(2, 3, 8, 8)
        others = torch.rand(3, 3, 8, 8)
        present = torch.tensor([[True, False, True], [False, True, False]])
        nothing = torch.full((2, 8, 8), VOID)
        with torch.no_grad():
            terms = made.loss(
                {
                    "labelled": {"image": labelled, "target": nothing, "present": present},
                    "unlabelled_1": {"image": others},
                },
                epoch=5,
            )
        small = [resized(images, 4).double().numpy() for images in (labelled, others)]
        both = np.concatenate(small)

        def seen(images, by):
            mean, var = by.mean((0, 2, 3)), by.var((0, 2, 3))
            scaled = (images - mean[:, None, None]) / np.sqrt(var + 1e-5)[:, None, None]
            return scaled.mean((2, 3))

        p = 1 / (1 + np.exp(-seen(small[0], small[0])))
        said = np.where(present.numpy(), p, 1 - p)
        a, b = seen(small[1], small[1]), seen(small[1], both)
        cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        assert float(terms["consistency"]) == pytest.approx((1 - cosine).mean(), abs=1e-4)
        wanted = -np.log(said).mean() + (1 - cosine).mean()  # weight of epoch 5 of 10: 1
        assert float(terms["loss"]) == pytest.approx(wanted, rel=1e-4)

    def test_sizes(self):
        images = torch.rand(1, 3, 8, 8)
        assert resized(images, None) is images
        assert resized(images, 8) is images
        constant = torch.full((1, 3, 8, 12), 0.5)
        torch.testing.assert_close(resized(constant, 4), torch.full((1, 3, 4, 4), 0.5))
