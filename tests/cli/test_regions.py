"""The maps of a run as files."""

import numpy as np
import pytest
from PIL import Image

import alseg.run
from alseg.cli.compose import options
from alseg.cli.regions import RegionOptions, cut
from alseg.cli.run import build
from alseg.core.errors import UserError
from alseg.labels.tables import Query
from tests.cli.test_run import TINY


def words(folder):
    kept = [word for word in TINY if not word.startswith(("method", "rounds", "budget"))]
    return [
        *(*kept, "method=adaptive_superpixel", "method.steps=2", "method.epoch_steps=2"),
        *("method.batch_size=2", "method.eps=0.5", "rounds=2", "budget.amount=8"),
        *(f"run_dir={folder / 'run'}", f"cache={folder / 'cache'}"),
    ]


def test_maps_of_all_rounds_and_of_one(tmp_path, capsys):
    given = words(tmp_path)
    with pytest.raises(UserError, match=r"no round 1 in .*run; give run_dir=… and a round"):
        cut(given, RegionOptions(export=str(tmp_path / "x"), of_round=1))
    assert alseg.run(*given) == 0
    cut(given, RegionOptions(export=str(tmp_path / "base")))
    cut(given, RegionOptions(export=str(tmp_path / "merged"), of_round=1))
    assert "merged-001 in" in capsys.readouterr().out
    run = build(options(*given))
    query = Query.load(tmp_path / "run" / "round_001" / "query.npz")
    names, smaller = run.splits.train.names, 0
    for index, name in enumerate(names):
        base, merged = (
            np.asarray(Image.open(tmp_path / kind / f"{name}.png")) for kind in ("base", "merged")
        )
        assert np.array_equal(base, run.pool.maps[run.regions][index])
        for region in np.unique(base):
            assert len(np.unique(merged[base == region])) == 1, "unions of base regions"
        smaller += len(np.unique(merged)) < len(np.unique(base))
        assert np.isin(query.unit[query.image == index], merged).all()
    assert smaller
    with pytest.raises(UserError, match=r"round 0 of .* asked about the maps of all"):
        cut(given, RegionOptions(export=str(tmp_path / "x"), of_round=0))


def test_options_that_do_not_go_together():
    with pytest.raises(UserError, match="give export=FOLDER, too"):
        cut([], RegionOptions(of_round=1))
    with pytest.raises(UserError, match="leave out shard"):
        cut([], RegionOptions(shard="1/2", export="x"))


def test_imports_that_cannot_be_meant():
    words = ["data=synthetic"]
    for given, sentence in (
        (RegionOptions(to="x"), "belong to what is imported"),
        (RegionOptions(pickles="x"), "give one of pickles and multihot, and where it goes"),
        (RegionOptions(pickles="x", multihot="y", to="z"), "give one of pickles and multihot"),
        (RegionOptions(pickles="x", to="z", shard="1/2"), "are for maps of a run"),
        (RegionOptions(multihot="x", to="z.npz"), "has rows of a data set; give data=NAME"),
    ):
        with pytest.raises(UserError, match=sentence):
            cut([], given)
    with pytest.raises(UserError, match=r"'method=random' has no meaning for what is imported"):
        cut(["method=random"], RegionOptions(pickles="x", to="z"))
    small = ["data.train=2", "data.val=1", "data.size=[48,64]"]
    with pytest.raises(UserError, match=r"give a file that ends in \.npz"):
        cut([*words, *small], RegionOptions(multihot="x", to="z"))
    with pytest.raises(UserError, match="cannot read order=none"):
        cut([*words, *small], RegionOptions(multihot="x", to="z.npz", order="none"))
