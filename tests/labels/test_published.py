import pickle

import numpy as np
import pytest

from alseg.core.errors import UserError
from alseg.labels.oracle import SimulatedOracle
from alseg.labels.published import RegionSets, TableOracle, import_sets
from alseg.labels.tables import Query
from tests.labels.test_oracle import query
from tests.toys import ToyImages, toy_pool


def multihot(images, pool, void=True):
    """What is in every region, by name, with a column for void unless it is left out."""
    rows = {}
    for index, name in enumerate(images.names):
        labels, regions = images.truth(index), pool.maps["blocks"][index]
        hot = np.zeros((int(regions.max()) + 1, 4), np.uint8)
        for region in range(len(hot)):
            found = np.unique(labels[regions == region])
            hot[region, np.where(found > 3, 3, found)] = 1
        rows[name] = hot if void else hot[:, :3]
    return rows


def dump(path, content):
    path.write_bytes(pickle.dumps(content))
    return path


def test_a_table_answers_as_the_truth_does(tmp_path):
    images, pool = toy_pool(amount=7)
    path = dump(tmp_path / "a.pkl", multihot(images, pool))
    import_sets(path, images).save(tmp_path / "sets.npz")
    oracle = TableOracle(str(tmp_path / "sets.npz"))
    oracle.check(images)
    blind = ToyImages(4, has_truth=False)
    said = oracle.answer(query(), pool, blind, tmp_path)
    wanted = SimulatedOracle(trim=0).answer(query(), pool, images, tmp_path)
    assert 0 < len(said) < 6, "or the budget is not looked at"
    np.testing.assert_array_equal(said.members(), wanted.members())


def test_one_array_of_all_images_and_void_left_out(tmp_path):
    images, pool = toy_pool()
    rows = multihot(images, pool, void=False)
    turned = list(reversed(images.names))
    block = np.stack([rows[name] for name in turned])
    path = dump(tmp_path / "a.pkl", {"multi_hot_cls": block, "sizes": np.zeros(3)})
    table = import_sets(path, images, turned)
    for name in images.names:
        found = table.of(name)
        np.testing.assert_array_equal(found[:, :3], rows[name] > 0)
        np.testing.assert_array_equal(found[:, 3], ~(rows[name] > 0).any(axis=1))
    table.save(tmp_path / "sets.npz")
    again = RegionSets.load(tmp_path / "sets.npz")
    assert (again.names, again.num_classes) == (table.names, 3)
    np.testing.assert_array_equal(again.sets, table.sets)


def test_files_that_do_not_fit_get_a_sentence(tmp_path):
    images, pool = toy_pool()
    rows = multihot(images, pool)
    for content, words in (
        (np.zeros((3, 9, 4), np.uint8), "sets of 3 images, and 4 are named; give order="),
        ([1, 2], "holds no multi-hot labels"),
        ({"toy_00": rows["toy_00"]}, "no labels for 3 of the 4 training images, such as toy_01"),
        ({name: hot[:, :2] for name, hot in rows.items()}, r"shape \(24, 2\); with 3 classes"),
    ):
        with pytest.raises(UserError, match=words):
            import_sets(dump(tmp_path / "a.pkl", content), images)


def test_an_oracle_that_cannot_answer_says_so(tmp_path):
    images, pool = toy_pool()
    path = tmp_path / "sets.npz"
    with pytest.raises(UserError, match=r"sets\.npz is not there; python -m alseg\.regions multi"):
        TableOracle(str(path)).check(images)
    rows = multihot(images, pool)
    RegionSets.of_arrays({n: rows[n][:8] for n in images.names[:3]}, 3).save(path)
    oracle = TableOracle(str(path))
    with pytest.raises(UserError, match="no labels for 1 of the images, such as toy_03"):
        oracle.check(images)
    with pytest.raises(UserError, match=r"has 8 regions for toy_00, and region 9 was asked"):
        oracle.answer(query(), pool, images, tmp_path)
    with pytest.raises(UserError, match="knows the class sets of regions, and the dominant of a"):
        oracle.answer(query("dominant"), pool, images, tmp_path)
    RegionSets.of_arrays({n: rows[n][:, :2] for n in images.names}, 2).save(path)
    with pytest.raises(UserError, match="knows 2 classes, the images have 3"):
        TableOracle(str(path)).check(images)
    np.savez(path, meta=np.zeros(3, np.uint8), starts=np.zeros(1), sets=np.zeros((0, 1)))
    with pytest.raises(UserError, match="is no table of class sets"):
        RegionSets.load(path)


def test_an_empty_query_is_answered(tmp_path):
    images, pool = toy_pool()
    path = tmp_path / "sets.npz"
    RegionSets.of_arrays(multihot(images, pool), 3).save(path)
    none = np.zeros(0, np.int64)
    asked = Query(0, "region", "class_set", "blocks", none, none, np.zeros(0, np.float32))
    assert len(TableOracle(str(path)).answer(asked, pool, images, tmp_path)) == 0
