"""What data sources give."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from nas.train.data.digits import Digits
from nas.train.data.folder import Folder
from nas.train.data.images import SPLITS, write_splits
from nas.train.data.npz import Npz
from nas.train.data.parquet import Parquet


def picture(value: int, *, size: tuple[int, int] = (6, 6), mode: str = "L") -> Image.Image:
    return Image.new(mode, size, value if mode == "L" else (value,) * len(mode))


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


def write_folder(root: Path, *, classes: tuple[str, ...] = ("cat", "dog"), each: int = 4, value: int = 0) -> None:
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for index in range(each):
            picture(value + 10 * label + index).save(root / name / f"{index:03d}.png")


def write_parquet(path: Path, labels: list[object], *, names: list[str] | None = None, first: int = 0) -> None:
    rows = [{"bytes": png(picture(first + index)), "path": f"{index}.png"} for index in range(len(labels))]
    table = pa.table({"image": rows, "label": labels})
    if names is not None:
        features = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def shared_data() -> Path:
    beside = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    folder = Path(os.environ.get("NAS_DATA", beside))
    if not (folder / "cifar10").is_dir():
        pytest.skip(f"no cifar10 in {folder} (set NAS_DATA)")
    return folder


def test_digits_are_cut_as_their_summary_says():
    assert Digits().load().summary() == "digits  1437 train / 180 val / 180 test, 8x8x1, 10 classes"


def test_digits_reach_from_black_to_white_and_say_how_they_were_scaled():
    data = Digits().load()
    assert (data.images.min(), data.images.max()) == (0, 255)
    assert set(np.unique(data.images)) <= set(np.round(np.arange(17) * 255 / 16))
    assert "255/16" in data.note


def test_splits_are_disjoint_cover_all_images_and_hold_every_class_in_proportion():
    data = Digits().load()
    together = np.concatenate([data.splits[split] for split in SPLITS])
    assert np.array_equal(np.sort(together), np.arange(1797))
    whole = np.bincount(data.labels) / 1797
    for split in SPLITS:
        part = data.labels[data.splits[split]]
        assert np.allclose(np.bincount(part) / len(part), whole, atol=1 / len(part))


def test_the_same_options_give_the_same_data_and_another_seed_another_split():
    first, again, other = Digits().load(), Digits().load(), Digits(seed=1).load()
    assert first.digest == again.digest
    assert first.digest != other.digest
    assert not np.array_equal(first.splits["test"], other.splits["test"])


@pytest.mark.parametrize("change", ["pixel", "label", "class"])
def test_the_digest_follows_the_contents(tmp_path, change):
    images, labels = np.zeros((12, 4, 4), np.uint8), np.arange(12) % 2
    classes = np.array(["a", "b"])
    np.savez(tmp_path / "before.npz", images=images, labels=labels, classes=classes)
    if change == "pixel":
        images[3, 2, 2] = 1
    elif change == "label":
        labels = 1 - labels
    else:
        classes = np.array(["a", "c"])
    np.savez(tmp_path / "after.npz", images=images, labels=labels, classes=classes)
    before, after = (Npz(path=str(tmp_path / f"{name}.npz")).load() for name in ("before", "after"))
    assert before.digest != after.digest


def test_arrays_cannot_be_written_into():
    data = Digits(limit=50).load()
    for array in (data.images, data.labels, data.origin, *data.splits.values()):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_a_limit_keeps_the_classes_in_proportion():
    data = Digits(limit=200).load()
    assert len(data.images) == 200
    assert np.bincount(data.labels).min() >= 19
    assert np.array_equal(data.images, Digits().load().images[data.origin])


def test_recorded_splits_name_images_of_the_source(tmp_path):
    data = Digits(limit=100).load()
    write_splits(data, tmp_path / "splits.npz")
    with np.load(tmp_path / "splits.npz") as recorded:
        assert bytes(recorded["digest"]).decode() == data.digest
        for split in SPLITS:
            assert np.array_equal(recorded[split], data.origin[data.splits[split]])
    assert [file.name for file in tmp_path.iterdir()] == ["splits.npz"]


def test_images_are_resized_and_converted_when_asked():
    data = Digits(limit=60, resolution=12, channels=3).load()
    assert data.images.shape == (60, 12, 12, 3)
    assert np.array_equal(data.images[..., 0], data.images[..., 2])


def test_a_folder_a_class_gives_names_and_pixels(tmp_path):
    write_folder(tmp_path / "photos")
    (tmp_path / "photos" / ".hidden").mkdir()
    (tmp_path / "photos" / "cat" / "notes.txt").write_text("not an image")
    data = Folder(path=str(tmp_path / "photos")).load()
    assert data.summary() == "photos  4 train / 2 val / 2 test, 6x6x1, 2 classes"
    assert data.classes == ("cat", "dog")
    assert data.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 10, 11, 12, 13]


def test_split_folders_are_the_splits(tmp_path):
    for split, value in (("train", 0), ("val", 100), ("test", 200)):
        write_folder(tmp_path / split, value=value)
    data = Folder(path=str(tmp_path)).load()
    for split, low in (("train", 0), ("validation", 100), ("test", 200)):
        pixels = data.images[data.splits[split]]
        assert len(pixels) == 8
        assert low <= pixels.min() <= pixels.max() < low + 100


def test_validation_is_cut_from_training_where_the_source_has_a_test_set(tmp_path):
    write_folder(tmp_path / "train", each=10)
    write_folder(tmp_path / "test", each=5, value=200)
    data = Folder(path=str(tmp_path), validation_share=0.3).load()
    assert [len(data.splits[split]) for split in SPLITS] == [14, 6, 10]
    assert data.images[data.splits["test"]].min() >= 200
    assert data.images[data.splits["validation"]].max() < 200


def test_a_photo_is_turned_as_its_camera_says(tmp_path):
    write_folder(tmp_path)
    lying = Image.new("L", (6, 6), 0)
    lying.paste(255, (0, 0, 6, 1))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees, clockwise
    lying.save(tmp_path / "cat" / "000.png", exif=exif)
    first = Folder(path=str(tmp_path)).load().images[0, :, :, 0]
    assert np.all(first[:, 5] == 255)
    assert np.all(first[:, :5] == 0)


def test_transparency_is_dropped_when_channels_are_set(tmp_path):
    write_folder(tmp_path)
    Image.new("RGBA", (6, 6), (9, 8, 7, 100)).save(tmp_path / "cat" / "000.png")
    data = Folder(path=str(tmp_path), channels=3).load()
    assert data.images[0, 0, 0].tolist() == [9, 8, 7]


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (np.full((8, 5, 4), 7, np.uint8), (5, 4, 1)),
        (np.full((8, 5, 4, 3), 7, np.int64), (5, 4, 3)),
        (np.full((8, 3, 5, 4), 7, np.uint8), (5, 4, 3)),
        (np.full((8, 5, 4), 7 / 255, np.float32), (5, 4, 1)),
    ],
)
def test_npz_takes_every_layout_and_number_type_that_is_clear(tmp_path, images, expected):
    np.savez(tmp_path / "a.npz", images=images, labels=np.arange(8) % 2)
    data = Npz(path=str(tmp_path / "a.npz")).load()
    assert data.images.shape[1:] == expected
    assert np.all(data.images == 7)


def test_npz_with_splits_keeps_them(tmp_path):
    parts = {f"x_{split}": np.full((4, 2, 2), value, np.uint8) for value, split in enumerate(("train", "val", "test"))}
    labels = {f"y_{split}": np.array([[0], [1], [0], [1]]) for split in ("train", "val", "test")}
    np.savez(tmp_path / "a.npz", **parts, **labels)
    data = Npz(path=str(tmp_path / "a.npz")).load()
    for value, split in enumerate(SPLITS):
        assert np.all(data.images[data.splits[split]] == value)


def test_labels_with_gaps_are_renumbered_and_keep_their_names(tmp_path):
    labels = np.array([7, 2, 7, 2, 11, 11, 7, 2, 11])
    np.savez(tmp_path / "a.npz", images=np.zeros((9, 2, 2), np.uint8), labels=labels)
    data = Npz(path=str(tmp_path / "a.npz")).load()
    assert data.classes == ("2", "7", "11")
    assert data.labels.tolist() == [1, 0, 1, 0, 2, 2, 1, 0, 2]


def test_whole_numbers_as_floats_and_strings_are_labels(tmp_path):
    images = np.zeros((6, 2, 2), np.uint8)
    np.savez(tmp_path / "floats.npz", images=images, labels=np.array([0.0, 1.0] * 3))
    np.savez(tmp_path / "names.npz", images=images, labels=np.array(["yes", "no"] * 3))
    assert Npz(path=str(tmp_path / "floats.npz")).load().classes == ("0", "1")
    assert Npz(path=str(tmp_path / "names.npz")).load().classes == ("no", "yes")


def test_parquet_takes_splits_from_file_names_and_classes_from_metadata(tmp_path):
    names = ["owl", "wren", "never"]
    write_parquet(tmp_path / "train-00000-of-00002.parquet", [0, 1] * 3, names=names)
    write_parquet(tmp_path / "train-00001-of-00002.parquet", [1, 0] * 3, names=names, first=50)
    write_parquet(tmp_path / "test-00000-of-00001.parquet", [0, 1], names=names, first=100)
    data = Parquet(path=str(tmp_path)).load()
    assert data.classes == ("owl", "wren")
    assert data.images[data.splits["test"]].reshape(2, -1)[:, 0].tolist() == [100, 101]
    assert len(data.splits["train"]) + len(data.splits["validation"]) == 12


def test_a_glob_and_a_path_of_its_own_give_the_same_test_set_as_names_do(tmp_path):
    write_parquet(tmp_path / "train-a.parquet", [0, 1] * 4)
    write_parquet(tmp_path / "test-a.parquet", [0, 1], first=100)
    by_name = Parquet(path=str(tmp_path)).load()
    by_glob = Parquet(path=str(tmp_path / "t*.parquet")).load()
    by_path = Parquet(path=str(tmp_path / "train-a.parquet"), test_path=str(tmp_path / "test-a.parquet")).load()
    assert by_glob.summary().split()[1:] == by_name.summary().split()[1:] == by_path.summary().split()[1:]
    assert by_name.digest == by_glob.digest
    assert len(by_path.splits["test"]) == 2


def test_a_single_parquet_file_is_cut_whatever_its_name(tmp_path):
    write_parquet(tmp_path / "test.parquet", ["a", "b"] * 5)
    data = Parquet(path=str(tmp_path / "test.parquet")).load()
    assert [len(data.splits[split]) for split in SPLITS] == [6, 2, 2]


def test_cifar_10_is_read_in_part_with_its_own_test_set():
    data = Parquet(path=str(shared_data() / "cifar10"), limit=600).load()
    assert data.images.shape == (600, 32, 32, 3)
    assert [len(data.splits[split]) for split in SPLITS] == [450, 50, 100]
    assert np.bincount(data.labels).tolist() == [60] * 10


def test_rare_classes_stand_in_every_split(tmp_path):
    labels = np.array([0] * 100 + [1] * 3)
    np.savez(tmp_path / "a.npz", images=np.zeros((103, 2, 2), np.uint8), labels=labels)
    for limit in (None, 20):
        data = Npz(path=str(tmp_path / "a.npz"), limit=limit).load()
        assert all(set(data.labels[data.splits[split]]) == {0, 1} for split in SPLITS)
