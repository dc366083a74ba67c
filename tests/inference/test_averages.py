"""Averages of probabilities and of logits over windows, scales and mirror images, done slowly."""

import numpy as np
import pytest
import torch

from alseg.core.errors import UserError
from alseg.core.images import ClassTable
from alseg.data.files import KEEP_SIZE
from alseg.inference.onnxfile import OnnxSegmenter
from alseg.inference.trained import TrainedSegmenter, predict_labels

KERNEL = np.random.default_rng(3).normal(size=(5, 3, 3, 3)) * 2
TEMPERATURE = 0.5
CLASSES = ClassTable(("a", "b", "c", "d"), np.zeros((4, 3), np.uint8))
IMAGE = np.random.default_rng(4).integers(0, 256, (13, 17, 3), dtype=np.uint8)


def model(cls=TrainedSegmenter, **more):
    """Four classes and one output that is none, from a 3 x 3 convolution."""
    network = torch.nn.Conv2d(3, 5, 3, padding=1, bias=False).double()
    network.weight.data = torch.from_numpy(KERNEL)
    plain = {"classes": CLASSES, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    return cls(network, **plain, resize=KEEP_SIZE, temperature=TEMPERATURE, **more)


class Doubles(TrainedSegmenter):
    """Without the rounding of float32."""

    def normalized(self, image):
        return super().normalized(image).double()


def scores_of(image):
    """Logits of the classes of an image (H, W, 3) in -1..1, pixel by pixel."""
    height, width = image.shape[:2]
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    found = np.zeros((height, width, 4))
    for y in range(height):
        for x in range(width):
            for c in range(4):
                patch = padded[y : y + 3, x : x + 3].transpose(2, 0, 1)
                found[y, x, c] = (patch * KERNEL[c]).sum() / TEMPERATURE
    return found


def probabilities_of(image):
    return softmax(scores_of(image))


def softmax(scores):
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def bilinear(maps, height, width):
    """Another size by areas of pixels, pixel by pixel."""
    found = np.zeros((height, width, maps.shape[2]))
    for y in range(height):
        for x in range(width):
            a = min(max((y + 0.5) * maps.shape[0] / height - 0.5, 0), maps.shape[0] - 1)
            b = min(max((x + 0.5) * maps.shape[1] / width - 0.5, 0), maps.shape[1] - 1)
            low, left = int(a), int(b)
            high, right = min(low + 1, maps.shape[0] - 1), min(left + 1, maps.shape[1] - 1)
            top = maps[low, left] * (1 - b + left) + maps[low, right] * (b - left)
            bottom = maps[high, left] * (1 - b + left) + maps[high, right] * (b - left)
            found[y, x] = top * (1 - a + low) + bottom * (a - low)
    return found


def slow(image, score, window, scales, flip):
    """Mean scores of all views of all windows that cover a pixel."""
    height, width = image.shape[:2]
    tall, wide = window or (height, width)
    total, count = np.zeros((height, width, 4)), np.zeros((height, width, 1))
    for top in sorted({min(t, height - tall) for t in range(0, height, max(1, tall // 2))}):
        for left in sorted({min(x, width - wide) for x in range(0, width, max(1, wide // 2))}):
            part = image[top : top + tall, left : left + wide]
            views = []
            for scale in scales:
                grown = bilinear(part, round(tall * scale), round(wide * scale))
                views.append(bilinear(score(grown), tall, wide))
                if flip:
                    views.append(bilinear(score(grown[:, ::-1])[:, ::-1], tall, wide))
            total[top : top + tall, left : left + wide] += np.mean(views, axis=0)
            count[top : top + tall, left : left + wide] += 1
    return total / count


@pytest.mark.parametrize(
    ("window", "scales", "flip"),
    [(None, [1.0, 2.0], True), ((6, 8), [1.0], False), ((6, 8), [1.0, 1.5], True)],
)
def test_means_of_probabilities_and_of_logits(window, scales, flip):
    image = IMAGE / 127.5 - 1
    found = {}
    for average, score in (("probabilities", probabilities_of), ("logits", scores_of)):
        expected = slow(image, score, window, scales, flip)
        found[average] = predict_labels(
            model(Doubles), IMAGE, window, 0.5, scales, flip, average=average
        )
        np.testing.assert_array_equal(found[average], expected.argmax(axis=-1))
    assert (found["logits"] != found["probabilities"]).any()


def test_one_view_is_the_same_either_way():
    probabilities, logits = (
        predict_labels(model(Doubles), IMAGE, average=average)
        for average in ("probabilities", "logits")
    )
    np.testing.assert_array_equal(probabilities, logits)


def test_logits_of_probabilities_choose_the_same_classes(monkeypatch):
    """An exported network gives probabilities alone; their logarithms are logits."""

    class Exported(OnnxSegmenter):
        def normalized(self, image):
            return TrainedSegmenter.normalized(self, image)

        def __call__(self, images):
            return TrainedSegmenter.__call__(self, images.double()).float()

    given = {"scales": [1.0, 1.5], "flip": True, "average": "logits"}
    expected = predict_labels(model(Doubles), IMAGE, **given)
    np.testing.assert_array_equal(predict_labels(model(Exported), IMAGE, **given), expected)


def test_other_averages_get_a_sentence():
    with pytest.raises(UserError, match=r"unknown average 'votes'.*Known: logits, probabilities"):
        predict_labels(model(), IMAGE, average="votes")
