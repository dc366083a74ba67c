"""Checkpoints of other code, from the command line."""

import numpy as np
import pytest
import torch

from alseg.cli.convert import ConvertOptions, convert_files, help_text, main
from alseg.cli.folders import separate
from alseg.core.errors import UserError
from alseg.inference.trained import load_segmenter, predict_labels
from alseg.nn.segmenter import build_segmenter

OPTIONS = {"encoder_depth": 3, "decoder_channels": [16, 8, 8]}
WORDS = [
    *("method=random", "data.train=2", "data.val=1", "data.size=[48,64]"),
    *("network.architecture=Unet", "network.encoder=resnet18", "augment.mean=[0.4,0.4,0.4]"),
    "network.options={encoder_depth:3,decoder_channels:[16,8,8]}",
]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_segmenter("Unet", "resnet18", None, 10, options=OPTIONS).eval()


def write(path, network, **renamed):
    state = {}
    for name, tensor in network.state_dict().items():
        part, _, rest = name.partition(".")
        state[f"{renamed.get(part, part)}.{rest}"] = tensor
    torch.save({"state_dict": state}, path)
    return path


def convert(*words):
    others, given = separate(ConvertOptions, words)
    return convert_files(others, given)


def test_a_table_of_names_and_what_the_checkpoint_says(network, tmp_path, capsys):
    theirs = write(tmp_path / "a.tar", network, encoder="trunk", decoder="neck", classifier="out")
    names = tmp_path / "names.yaml"
    names.write_text("trunk: encoder\nneck: decoder\nout: [classifier]\n")
    given = [f"checkpoint={theirs}", f"out={tmp_path / 'a.ckpt'}", *WORDS]
    with pytest.raises(UserError, match=r"has none of the names that are known .*names=FILE\.yaml"):
        convert(*given)
    (path,) = convert(*given, f"names={names}")
    assert "tensors of a.tar" in capsys.readouterr().out
    model = load_segmenter(path, "cpu")
    assert len(model.classes) == 10
    assert (model.mean, model.temperature) == ((0.4, 0.4, 0.4), 1.0)
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = network(model.normalized(image)).argmax(dim=1)[0].numpy()
    np.testing.assert_array_equal(predict_labels(model, image), expected)


def test_a_folder_of_checkpoints(network, tmp_path):
    (tmp_path / "in").mkdir()
    for number in (1, 2):
        write(tmp_path / "in" / f"best_{number}.pth", network)
    (tmp_path / "in" / "log.txt").write_text("none")
    found = convert(f"checkpoint={tmp_path / 'in'}", f"out={tmp_path / 'out'}", *WORDS)
    assert [path.name for path in found] == ["best_1.ckpt", "best_2.ckpt"]
    assert all(path.is_file() for path in found)


def test_what_cannot_be_used_gets_a_sentence(network, tmp_path, capsys):
    theirs = write(tmp_path / "a.pth", network)
    names = tmp_path / "names.yaml"
    for given, sentence in (
        (["checkpoint=none.pth", "out=a.ckpt"], r"there is no none\.pth; give checkpoint=FILE"),
        ([f"checkpoint={theirs}", "out=folder"], r"out is folder; give a file that ends in \.ckpt"),
        ([f"checkpoint={names.parent / 'empty'}", "out=x"], r"holds no file that ends in \.pth"),
    ):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(UserError, match=sentence):
            convert(*given, *WORDS)
    for text in ("", "a: {b: c}", "- a", "a: []", "a: [1]"):
        names.write_text(text)
        with pytest.raises(UserError, match="says of no part what it is"):
            convert(f"checkpoint={theirs}", "out=a.ckpt", f"names={names}", *WORDS)
    assert main(["checkpoint=none.pth", "out=a.ckpt"]) == 2
    assert capsys.readouterr().err.startswith("error: there is no none.pth")
    assert main(["--help"]) == 0
    assert capsys.readouterr().out.strip() == help_text()
