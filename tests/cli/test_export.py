"""The command ``python -m alseg.export``."""

from pathlib import Path

import pytest

from alseg.cli.export import facts_of, main

HEAD = "round,clicks,seconds,pixels,units,miou,iou_sky,iou_road\n"


def run_folder(root: Path) -> Path:
    (root / "round_001" / "train").mkdir(parents=True)
    (root / "rounds.csv").write_text(f"{HEAD}0,10,24,10,10,0.2,0.1,0.3\n1,20,48,20,20,,0.5,\n")
    (root / "config.yaml").write_text("method: {name: margin}\ndata: {name: camvid}\n")
    return root / "round_001" / "train" / "last.ckpt"


def test_facts_are_those_of_the_round_the_checkpoint_is_from(tmp_path):
    facts = facts_of(run_folder(tmp_path), None)
    assert facts.title == "margin on camvid"
    assert (facts.method, facts.data) == ("margin", "camvid")
    assert facts.paid == {"clicks": 20, "seconds": 48, "pixels": 20, "units": 20}
    assert facts.miou is None
    assert facts.iou == {"sky": 0.5}


def test_a_checkpoint_elsewhere_has_no_facts(tmp_path):
    facts = facts_of(tmp_path / "last.ckpt", None)
    assert facts.title == "A network trained with alseg (last.ckpt)"
    assert not facts.paid
    assert facts_of(tmp_path / "last.ckpt", "Mine").title == "Mine"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["checkpoint=none.ckpt", "out=a"], "there is no checkpoint none.ckpt"),
        (["checkpoint=a.ckpt"], "out has no default"),
        (["out=a", "checkpoint=b", "c"], "'c' is no option"),
    ],
)
def test_what_cannot_be_exported_is_refused(words, sentence, capsys):
    assert main(words) == 2
    assert sentence in capsys.readouterr().err
