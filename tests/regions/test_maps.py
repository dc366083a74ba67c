import logging
import multiprocessing
import os
import pickle
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from alseg.core.errors import UserError
from alseg.regions import maps as maps_module
from alseg.regions.base import map_version
from alseg.regions.maps import RegionMaps, extract_regions
from alseg.regions.simple import Grid, WholeImage
from alseg.regions.superpixels import Seeds
from tests.regions.fakes import FakeImages, Recorded

SIZES = [(8, 12), (20, 6), (8, 12), (33, 31), (5, 5)]
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def source(tmp_path) -> Recorded:
    return Recorded(str(tmp_path / "journal"))


def extract(source, images, tmp_path, workers=0) -> RegionMaps:
    return extract_regions(source, images, tmp_path / "cache", workers, progress=False)


def expected(source, images) -> list[np.ndarray]:
    grid = Grid(rows=2, cols=2)
    found = []
    for index in range(len(images)):
        image = images.image(index)
        regions = grid(image, "")
        regions[0, 0] = -1
        regions[regions == 3] = int(image[0, 0, 0])
        found.append(regions)
    return found


def assert_right(maps, source, images):
    wanted = expected(source, images)
    assert len(maps) == len(wanted)
    for index, regions in enumerate(wanted):
        assert maps[index].dtype == np.int32
        assert np.array_equal(maps[index], regions)
        assert maps.num_regions[index] == regions.max() + 1
    assert maps.num_regions.dtype == np.int64
    assert maps.num_regions.shape == (len(wanted),)


def entries(tmp_path) -> list[Path]:
    return sorted((tmp_path / "cache").rglob("*.npz"))


def test_images_of_different_sizes_are_cut_once(tmp_path, source):
    images = FakeImages(SIZES)
    assert_right(extract(source, images, tmp_path), source, images)
    assert sorted(name for name, _ in source.cuts()) == images.names
    assert_right(extract(source, images, tmp_path), source, images)
    assert len(source.cuts()) == len(images)


def test_the_version_is_the_same_whatever_the_images(tmp_path, source):
    one = extract(source, FakeImages(SIZES), tmp_path)
    other = extract(source, FakeImages([(9, 9)], content=[77]), tmp_path)
    assert one.version == other.version == map_version({"name": "recorded"})
    assert extract(WholeImage(), FakeImages(SIZES), tmp_path).version != one.version


def test_indices_behave_like_those_of_a_list(tmp_path, source):
    images = FakeImages(SIZES)
    maps = extract(source, images, tmp_path)
    assert np.array_equal(maps[-1], maps[len(SIZES) - 1])
    assert np.array_equal(maps[np.int64(1)], maps[1])
    with pytest.raises(IndexError):
        maps[len(SIZES)]
    assert len(list(maps)) == len(SIZES)


def test_other_content_means_another_map(tmp_path, source):
    extract(source, FakeImages(SIZES), tmp_path)
    changed = FakeImages(SIZES, content=[0, 1, 42, 3, 4])
    assert_right(extract(source, changed, tmp_path), source, changed)
    assert [name for name, _ in source.cuts()][len(SIZES) :] == [changed.names[2]]


def test_equal_images_of_different_names_do_not_share_a_map(tmp_path):
    images = FakeImages([(8, 8), (8, 8)], content=[5, 5])

    class ByName(Recorded):
        def __call__(self, image, name):
            return np.full(image.shape[:2], images.names.index(name), np.int32)

    maps = extract(ByName("unused"), images, tmp_path)
    assert [int(maps[i].max()) for i in (0, 1)] == [0, 1]


@pytest.mark.parametrize("top", [-1, 0, 253, 254, 255, 65_533, 65_534, 65_535, 70_000])
def test_ids_of_every_width_come_back(tmp_path, top):
    regions = np.full((300, 300), -1, np.int32)
    regions[0, 0], regions[7, 7] = top, min(top, 0)

    class Fixed(Recorded):
        def __call__(self, image, name):
            return regions

    maps = extract(Fixed("unused"), FakeImages([(300, 300)]), tmp_path)
    assert np.array_equal(maps[0], regions)
    assert maps.num_regions.tolist() == [top + 1]


def test_maps_travel_to_other_processes(tmp_path, source):
    images = FakeImages(SIZES)
    maps = pickle.loads(pickle.dumps(extract(source, images, tmp_path)))
    assert_right(maps, source, images)


def test_num_regions_cannot_be_changed(tmp_path, source):
    maps = extract(source, FakeImages(SIZES), tmp_path)
    with pytest.raises(ValueError, match="read-only"):
        maps.num_regions[0] = 3


def test_worker_processes_share_the_work(tmp_path, source, monkeypatch):
    monkeypatch.setattr(maps_module, "_WORTH_PROCESSES", 0.0)
    images = FakeImages([(8, 8)] * 12)
    assert_right(extract(source, images, tmp_path, workers=2), source, images)
    names, processes = zip(*source.cuts(), strict=True)
    assert sorted(names) == images.names
    assert str(os.getpid()) in processes  # the first image, which tells how long one takes
    assert len(set(processes)) > 1


def test_little_work_starts_no_process(tmp_path, source):
    extract(source, FakeImages(SIZES), tmp_path, workers=2)
    assert {process for _, process in source.cuts()} == {str(os.getpid())}


def test_a_worker_that_dies_is_told_with_a_way_out(tmp_path, monkeypatch):
    monkeypatch.setattr(maps_module, "_WORTH_PROCESSES", 0.0)
    source = Recorded(str(tmp_path / "journal"), die=True)
    with pytest.raises(UserError, match=r"use fewer workers.*workers=0"):
        extract(source, FakeImages([(8, 8)] * 3), tmp_path, workers=2)
    assert len(entries(tmp_path)) == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_all_images_at_fault_are_named_and_the_others_kept(tmp_path, monkeypatch, workers):
    monkeypatch.setattr(maps_module, "_WORTH_PROCESSES", 0.0)
    images = FakeImages([(8, 8)] * 5)
    source = Recorded(str(tmp_path / "journal"), refuse=(images.names[3], images.names[1]))
    with pytest.raises(UserError, match=r"^2 of 5 images .*: .*0001.*refused; .*0003.*refused\.$"):
        extract(source, images, tmp_path, workers)
    assert len(entries(tmp_path)) == 3


def test_other_errors_say_which_image(tmp_path):
    class Broken(Recorded):
        def __call__(self, image, name):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        extract(Broken("unused"), FakeImages(SIZES), tmp_path)
    assert "street/0000.jpg" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((8, 8), np.int64), np.zeros((8, 7), np.int32), np.full((8, 8), -2, np.int32)],
)
def test_a_source_that_breaks_the_contract_is_a_programming_error(tmp_path, wrong):
    class Wrong(Recorded):
        def __call__(self, image, name):
            return wrong

    with pytest.raises(TypeError, match="as int32"):
        extract(Wrong("unused"), FakeImages([(8, 8)]), tmp_path)


def test_images_are_checked_before_any_is_cut(tmp_path):
    class Choosy(Recorded):
        def check(self, images):
            raise UserError("these will not do")

    source = Choosy(str(tmp_path / "journal"))
    with pytest.raises(UserError, match="these will not do"):
        extract(source, FakeImages(SIZES), tmp_path)
    assert source.cuts() == []


def test_progress_is_shown_unless_turned_off(tmp_path, source, capsys):
    images = FakeImages(SIZES)
    extract_regions(source, images, tmp_path / "one", 0)
    assert "regions recorded-" in capsys.readouterr().err
    extract_regions(source, images, tmp_path / "two", 0, progress=False)
    assert capsys.readouterr().err == ""


def empty(path):
    path.write_bytes(b"")


def truncate(path):
    path.write_bytes(path.read_bytes()[:-40])


def garble(path):
    path.write_bytes(b"not a map at all")


def flip_in_head(path):
    content = bytearray(path.read_bytes())
    content[content.index(b"num_regions.npy") + 45] ^= 0xFF
    path.write_bytes(content)


DAMAGES = [empty, truncate, garble, flip_in_head]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_made_again(tmp_path, source, damage, caplog):
    images = FakeImages(SIZES)
    extract(source, images, tmp_path)
    damage(entries(tmp_path)[2])
    with caplog.at_level(logging.WARNING):
        maps = extract(source, images, tmp_path)
    assert len(source.cuts()) == len(images) + 1
    assert f"{entries(tmp_path)[2]} is damaged" in caplog.text
    assert_right(maps, source, images)


def flip_in_map(path):
    content = bytearray(path.read_bytes())
    content[content.index(b"ids.npy") + 60] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [empty, truncate, garble, flip_in_map, Path.unlink])
def test_damage_during_a_run_is_mended_where_the_map_is_read(tmp_path, source, damage, caplog):
    images = FakeImages([(20, 30)])
    maps = extract(source, images, tmp_path)
    damage(entries(tmp_path)[0])
    assert_right(maps, source, images)
    assert len(source.cuts()) == 2
    assert "Making the region map of street/0000.jpg again" in caplog.text


def extract_with_barrier(barrier, source, images, tmp_path, answers):
    barrier.wait()
    maps = extract(source, images, tmp_path)
    answers.put([maps[index] for index in range(len(maps))])


def test_two_runs_at_once_make_each_map_once(tmp_path):
    source = Recorded(str(tmp_path / "journal"), seconds=0.02)
    images = FakeImages(SIZES * 3)
    barrier, answers = SPAWN.Barrier(2), SPAWN.Queue()
    arguments = (barrier, source, images, tmp_path, answers)
    runs = [SPAWN.Process(target=extract_with_barrier, args=arguments) for _ in range(2)]
    for run in runs:
        run.start()
    found = [answers.get(timeout=60) for _ in runs]
    for run in runs:
        run.join()
    assert sorted(name for name, _ in source.cuts()) == images.names
    for maps in found:
        for got, wanted in zip(maps, expected(source, images), strict=True):
            assert np.array_equal(got, wanted)


def test_a_killed_run_leaves_whole_maps_or_none(tmp_path):
    slow = Recorded(str(tmp_path / "journal"), seconds=0.1)
    images = FakeImages(SIZES * 3)
    run = SPAWN.Process(target=extract, args=(slow, images, tmp_path))
    run.start()
    deadline = time.monotonic() + 60
    while len(entries(tmp_path)) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(run.pid, signal.SIGKILL)
    run.join()
    kept = entries(tmp_path)
    assert 3 <= len(kept) < len(images)
    before = len(slow.cuts())
    (kept[0].parent / f".{kept[0].name}.left-over").write_bytes(b"half a ma")
    quick = Recorded(slow.journal)
    assert_right(extract(quick, images, tmp_path), quick, images)
    assert len(slow.cuts()) - before == len(images) - len(kept)


def test_superpixels_end_to_end(tmp_path):
    images = FakeImages([(48, 64), (64, 48)])
    maps = extract(Seeds(region_size=64), images, tmp_path)
    assert maps.version.startswith("seeds-")
    assert np.array_equal(maps[1], Seeds(region_size=64)(images.image(1), images.names[1]))
    assert maps.num_regions.tolist() == [48, 48]


def test_sizes_of_regions_are_known_without_reading_a_map(tmp_path, source, monkeypatch):
    images = FakeImages(SIZES)
    first = extract(source, images, tmp_path)
    wanted = [
        np.bincount(regions[regions >= 0], minlength=regions.max() + 1)
        for regions in expected(source, images)
    ]

    def refuse(*arguments):
        raise AssertionError("a map was read")

    monkeypatch.setattr(maps_module, "_read", refuse)
    again = pickle.loads(pickle.dumps(extract(source, images, tmp_path)))
    for maps in (first, again):
        for index, sizes in enumerate(wanted):
            assert np.array_equal(maps.region_sizes(index), sizes)
    assert again.num_regions.tolist() == first.num_regions.tolist()


def test_sizes_that_cannot_be_written_are_read_off_the_maps(tmp_path, source):
    images = FakeImages(SIZES)
    version = extract(source, images, tmp_path).version
    shutil.rmtree(tmp_path / "cache" / version / "sizes")
    (tmp_path / "cache" / version / "sizes").write_text("in the way")
    maps = extract(source, images, tmp_path)
    for index, regions in enumerate(expected(source, images)):
        assert np.array_equal(
            maps.region_sizes(index),
            np.bincount(regions[regions >= 0], minlength=regions.max() + 1),
        )


def test_damaged_sizes_are_read_off_the_maps_again(tmp_path, source):
    images = FakeImages(SIZES)
    extract(source, images, tmp_path)
    for path in (tmp_path / "cache").rglob("sizes/*"):
        path.write_bytes(path.read_bytes()[:-4])
    assert_right(extract(source, images, tmp_path), source, images)
    assert len(source.cuts()) == len(images)


def test_maps_of_release_0_1_are_read(tmp_path, source):
    images = FakeImages(SIZES)
    extract(source, images, tmp_path)
    for path in entries(tmp_path):
        runs = maps_module._read_runs(path)
        count = int(runs.ids.max()) + 1
        ids = (runs.dense() + 1).astype(np.min_scalar_type(count))
        np.savez_compressed(path, num_regions=np.int64(count), ids=ids)
    maps = extract(source, images, tmp_path)
    assert_right(maps, source, images)
    assert len(source.cuts()) == len(images)
    assert [int(maps.region_sizes(i).sum()) for i in range(5)] == [
        int((regions >= 0).sum()) for regions in expected(source, images)
    ]
