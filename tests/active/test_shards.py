import numpy as np
import pytest
import torch

from alseg.active.shards import ShardWriter, read_shards


def tables_of(image, rows=3):
    """What scoring one image yields: several region rows and one image row."""
    values = np.random.default_rng(image).random((rows, 2)).astype(np.float32)
    return {
        "regions": {
            "image": torch.full((rows,), image, dtype=torch.int32),
            "unit": torch.arange(rows),
            "value": torch.from_numpy(values),
        },
        "images": {"image": torch.tensor([image]), "mean": torch.from_numpy(values[:1])},
    }


def scored(folder, world, images=(0, 2, 3, 4, 7)):
    """Deal the images out as the pool sampler does: every world-th, a repeat for an idle rank."""
    folders = []
    for rank in range(world):
        writer = ShardWriter(folder / f"rank_{rank}")
        for image in images[rank::world] or [images[rank % len(images)]]:
            writer.append(tables_of(image, rows=1 + image))
        writer.close()
        folders.append(folder / f"rank_{rank}")
    return read_shards(folders)


@pytest.mark.parametrize("world", [2, 3, 7])
def test_the_tables_do_not_depend_on_the_number_of_processes(tmp_path, world):
    one, many = scored(tmp_path / "one", 1), scored(tmp_path / "many", world)
    assert set(one) == set(many) == {"regions", "images"}
    for name, table in one.items():
        for column, values in table.items():
            assert np.array_equal(values, many[name][column])
            assert values.dtype == many[name][column].dtype
    assert one["images"]["image"].tolist() == [0, 2, 3, 4, 7]
    assert len(one["regions"]["image"]) == 1 + 3 + 4 + 5 + 8


def test_columns_of_one_process_stay_on_disk(tmp_path):
    assert isinstance(scored(tmp_path, 1)["regions"]["value"], np.memmap)


def test_a_repeated_pass_starts_from_nothing(tmp_path):
    for _ in range(2):
        writer = ShardWriter(tmp_path / "rank_0")
        writer.append(tables_of(1))
        writer.close()
    assert len(read_shards([tmp_path / "rank_0"])["regions"]["image"]) == 3


def test_a_table_without_rows(tmp_path):
    writer = ShardWriter(tmp_path / "rank_0")
    writer.append({"t": {"image": torch.zeros(0, dtype=torch.int64), "x": torch.zeros(0, 4)}})
    writer.close()
    assert read_shards([tmp_path / "rank_0"])["t"]["x"].shape == (0, 4)


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ({"x": torch.zeros(1)}, "one named 'image'"),
        ({"image": torch.zeros(2), "x": torch.zeros(1)}, "equal length"),
        ({"image": torch.zeros(1), "x": torch.tensor([float("nan")])}, "non-finite"),
        ({"image": torch.zeros(1), "x": torch.tensor([float("inf")])}, "non-finite"),
    ],
)
def test_bad_tables_are_refused(tmp_path, table, sentence):
    with pytest.raises(ValueError, match=sentence):
        ShardWriter(tmp_path / "r").append({"t": table})


def test_a_column_keeps_its_type(tmp_path):
    writer = ShardWriter(tmp_path / "r")
    writer.append({"t": {"image": torch.zeros(1, dtype=torch.int32)}})
    with pytest.raises(ValueError, match="changed its type"):
        writer.append({"t": {"image": torch.zeros(1, dtype=torch.int64)}})
