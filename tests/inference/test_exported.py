"""Networks in files that others can open."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from alseg.core.errors import UserError
from alseg.inference.checkpoint import checkpoint_of
from alseg.inference.exported import CARD, CONFIG, ONNX, WEIGHTS, Facts, card, write_model
from alseg.inference.trained import load_segmenter, predict_labels
from alseg.nn.segmenter import build_segmenter

IMAGE = np.random.default_rng(0).integers(0, 256, (37, 51, 3), dtype=np.uint8)
IMAGES = {
    "classes": ["sky", "road"],
    "colors": [[1, 2, 3], [4, 5, 6]],
    "mean": [0.4, 0.5, 0.6],
    "std": [0.2, 0.25, 0.3],
    "size": [40, 60],
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A checkpoint whose batch norms hold statistics other than those they begin with."""
    torch.manual_seed(0)
    options = {"decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32}
    network = build_segmenter("FPN", "resnet18", None, 3, False, options)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    about = {
        "network": network.description,
        "num_classes": 2,  # the third output is for void
        "temperature": 0.5,
        "images": IMAGES,
    }
    state = {f"network.{name}": value for name, value in network.state_dict().items()}
    progress = {"epoch_loop.batch_progress": {"total": {"processed": 12}}}
    content = {"state_dict": state, "alseg": about, "loops": {"fit_loop": progress}}
    path = tmp_path_factory.mktemp("run") / "last.ckpt"
    torch.save(content, path)
    return checkpoint_of(path, content)


@pytest.fixture(scope="module")
def folder(found, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported")
    write_model(found, out, Facts("Streets", "margin", "camvid", {"clicks": 1234.0}, 0.5))
    return out


@pytest.mark.parametrize("name", ["", WEIGHTS])
def test_weights_come_back_to_the_last_bit(name, found, folder):
    loaded = load_segmenter(folder / name, "cpu")
    for key, value in loaded.network.state_dict().items():
        assert torch.equal(value, found.state[key])
    wanted = load_segmenter(found.path, "cpu")
    assert (loaded.mean, loaded.std) == (wanted.mean, wanted.std)
    assert loaded.temperature == 0.5
    assert loaded.resize == wanted.resize
    assert loaded.classes.names == ("sky", "road")
    assert np.array_equal(loaded.classes.colors, wanted.classes.colors)
    assert np.array_equal(predict_labels(loaded, IMAGE), predict_labels(wanted, IMAGE))


def test_the_description_is_there_to_read(found, folder):
    about = json.loads((folder / CONFIG).read_text())
    assert about["network"]["encoder"] == "resnet18"
    assert about["images"]["classes"] == ["sky", "road"]
    assert about["batches"] == 12


def test_the_card_says_what_was_paid_and_measured(folder):
    text = (folder / CARD).read_text()
    assert text.startswith("---\nlibrary_name: alseg\n")
    assert "# Streets" in text
    assert "| 1 | road | 4, 5, 6 |  |" in text
    assert "- **Mean IoU**: 0.5000 on the validation images." in text
    assert "- **Labels paid for**: 1,234 clicks." in text
    assert "(image / 255 - [0.4, 0.5, 0.6]) / [0.2, 0.25, 0.3], RGB" in text
    assert "loaded at 40 x 60" in text


def test_a_card_says_what_is_not_known(found):
    text = card(replace(found, images={}, batches=None), Facts("A", iou={"class 1": 0.25}))
    assert "not measured" in text
    assert "| 1 | class 1 |" in text
    assert "0.2500 |" in text
    assert "paid" not in text
    assert "Normalisation" not in text


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "cannot be read as safetensors"),
        (b"\xff" * 100, "cannot be read as safetensors"),
        (None, "does not describe a network of alseg"),
    ],
)
def test_foreign_files_get_a_sentence(content, sentence, tmp_path):
    path = tmp_path / "model.safetensors"
    if content is None:
        save_file({"a": torch.zeros(2)}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        load_segmenter(path)


def test_weights_of_another_network_are_refused(found, tmp_path):
    state = dict(found.state)
    del state["encoder.conv1.weight"]
    write_model(replace(found, state=state), tmp_path, Facts("A"))
    with pytest.raises(UserError, match="does not hold the FPN with resnet18"):
        load_segmenter(tmp_path)


@pytest.mark.filterwarnings("ignore")
class TestOnnx:
    @pytest.fixture(scope="class")
    def path(self, found, tmp_path_factory):
        pytest.importorskip("onnx", reason="pip install 'alseg[export]'")
        pytest.importorskip("onnxruntime", reason="pip install 'alseg[export]'")
        from alseg.inference.onnxfile import write_onnx

        path = tmp_path_factory.mktemp("onnx") / ONNX
        gap = write_onnx(load_segmenter(found.path, "cpu"), found, path)
        assert gap < 1e-5
        return path

    def test_it_predicts_what_pytorch_predicts(self, path, found):
        ours, theirs = load_segmenter(path), load_segmenter(found.path, "cpu")
        assert ours.classes.names == theirs.classes.names
        for size in ((37, 51), (64, 96)):
            image = IMAGE[: size[0], : size[1]]
            got = ours(ours.normalized(image)).numpy()
            wanted = theirs(theirs.normalized(image)).numpy()
            np.testing.assert_allclose(got, wanted, atol=1e-5)
        assert np.mean(predict_labels(ours, IMAGE) == predict_labels(theirs, IMAGE)) > 0.999

    def test_normalisation_is_inside(self, path, found):
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        image = np.resize(IMAGE, (64, 32, 3)).transpose(2, 0, 1)[None].astype(np.float32)
        got = session.run(None, {"image": image})[0]
        network = load_segmenter(found.path, "cpu").network
        mean, std = (np.array(IMAGES[k], np.float32)[:, None, None] for k in ("mean", "std"))
        with torch.no_grad():
            scores = network(torch.from_numpy((image / 255 - mean) / std))[:, :2] / 0.5
        np.testing.assert_allclose(got, scores.softmax(dim=1).numpy(), atol=1e-3)

    def test_sides_that_are_one_more_than_a_multiple(self, found, tmp_path):
        pytest.importorskip("onnxruntime", reason="pip install 'alseg[export]'")
        from alseg.inference.onnxfile import load_onnx, write_onnx

        torch.manual_seed(0)
        small = {"decoder_channels": 8, "align_corners": True, "padding": "one_more"}
        network = build_segmenter("ConfigurableDeepLabV3Plus", "resnet18", None, 3, options=small)
        model = replace(load_segmenter(found.path, "cpu"), network=network.eval())
        path = tmp_path / ONNX
        assert write_onnx(model, found, path) < 1e-4
        loaded = load_onnx(path)
        assert (loaded.multiple, loaded.remainder) == (16, 1)
        image = model.normalized(IMAGE)
        raw = loaded.normalized(IMAGE)
        np.testing.assert_allclose(loaded(raw), model(image).detach(), atol=1e-4)

    @pytest.mark.parametrize("content", [b"", b"onnx"])
    def test_foreign_files_get_a_sentence(self, content, tmp_path, path):
        foreign = tmp_path / "a.onnx"
        foreign.write_bytes(content)
        with pytest.raises(UserError, match=r"give the model.onnx that alseg.export wrote"):
            load_segmenter(foreign)
