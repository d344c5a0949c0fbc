"""Every mistake in a data set is one line that names the file."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from nas.errors import UserError
from nas.train.data.digits import Digits
from nas.train.data.folder import Folder
from nas.train.data.huggingface import HuggingFace
from nas.train.data.npz import Npz
from nas.train.data.parquet import Parquet
from nas.train.data.torchvision import TorchVision


def refused(source) -> str:
    with pytest.raises(UserError) as caught:
        source.load()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def photos(tmp_path, monkeypatch) -> Path:
    """A good folder of two classes, at the relative path ``photos``."""
    monkeypatch.chdir(tmp_path)
    for name in ("cat", "dog"):
        Path("photos", name).mkdir(parents=True)
        for index in range(4):
            Image.new("RGB", (8, 8), (index, 0, 0)).save(f"photos/{name}/{index:03d}.png")
    return Path("photos")


def save(path: Path, **arrays) -> Npz:
    np.savez(path / "a.npz", **arrays)
    return Npz(path=str(path / "a.npz"))


IMAGES = np.zeros((8, 4, 4), np.uint8)
LABELS = np.arange(8) % 2


@pytest.mark.parametrize("source", [Folder, Npz, Parquet])
def test_a_path_that_leads_nowhere(source):
    assert refused(source(path="no/such")).startswith("data.path: no such file or folder: no/such; relative paths")


@pytest.mark.parametrize("source", [Folder, Npz, Parquet])
def test_no_path_at_all(source):
    assert refused(source()).startswith("data.path: must say where the images are, got nothing; e.g. data.path=")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("resolution", 0),
        ("resolution", 2.5),
        ("channels", 2),
        ("limit", -1),
        ("limit", True),
        ("seed", "a"),
        ("validation_share", 0.0),
        ("validation_share", float("nan")),
        ("test_share", 0.9),
    ],
)
def test_an_option_out_of_its_range_names_the_field_and_the_value(field, value):
    with pytest.raises(UserError, match=rf"^data\.{field}: must be .*got {value!r}"):
        Digits(**{field: value})


def test_a_limit_too_small_for_every_class_in_every_split():
    assert refused(Digits(limit=29)) == (
        "data.limit: must leave every class in every split: at least 30 images for 10 classes, got 29"
    )


def test_images_of_mixed_sizes_name_both_files(photos):
    Image.new("RGB", (640, 480)).save(photos / "cat" / "002.png")
    expected = (
        "data: photos/cat/002.png is 640x480 and photos/cat/000.png is 8x8; set data.resolution to resize them all."
    )
    assert refused(Folder(path="photos")) == expected
    assert Folder(path="photos", resolution=8).load().images.shape == (8, 8, 8, 3)


def test_images_of_mixed_channels_name_both_files(photos):
    Image.new("L", (8, 8)).save(photos / "dog" / "001.png")
    expected = (
        "data: photos/dog/001.png has 1 channel and photos/cat/000.png has 3 channels;"
        " set data.channels to 1 or 3 to convert them all."
    )
    assert refused(Folder(path="photos")) == expected
    assert Folder(path="photos", channels=1).load().images.shape == (8, 8, 8, 1)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n broken"])
def test_a_file_that_is_no_image_is_named(photos, content):
    (photos / "dog" / "003.png").write_bytes(content)
    assert refused(Folder(path="photos")).startswith("data: photos/dog/003.png cannot be read as an image (")


def test_a_truncated_image_is_named(photos):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, format="JPEG")
    (photos / "cat" / "001.png").write_bytes(file.getvalue()[:1500])
    assert refused(Folder(path="photos")).startswith("data: photos/cat/001.png cannot be read as an image (")


def test_transparency_and_16_bits_are_named(photos):
    Image.new("RGBA", (8, 8)).save(photos / "cat" / "000.png")
    assert refused(Folder(path="photos")).startswith("data: photos/cat/000.png has transparency; set data.channels=3")
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(photos / "cat" / "000.png")
    assert "photos/cat/000.png must have 8 bits a channel" in refused(Folder(path="photos", channels=1))


def test_an_empty_folder(tmp_path):
    assert refused(Folder(path=str(tmp_path))).startswith(f"data: {tmp_path} holds no images (")


def test_a_file_where_a_folder_is_wanted(photos):
    assert "must be a folder of class folders" in refused(Folder(path="photos/cat/000.png"))


def test_images_that_lie_in_no_class_folder(photos):
    Image.new("RGB", (8, 8)).save(photos / "lost.png")
    assert refused(Folder(path="photos")).startswith("data: photos/lost.png is unlabelled; move it to photos/<class>/")


def test_an_empty_class_folder(photos):
    (photos / "eel").mkdir()
    assert refused(Folder(path="photos")) == "data: photos/eel holds no images; fill it or remove it"


def test_a_single_class(photos):
    for file in (photos / "dog").iterdir():
        file.unlink()
    (photos / "dog").rmdir()
    assert refused(Folder(path="photos")) == ("data: must have at least two classes, got one (cat); add another class")


def test_too_few_images_of_a_class(photos):
    for index in range(2):
        (photos / "dog" / f"{index:03d}.png").unlink()
    expected = (
        "data: each class must have at least 3 images, one a split, but 'dog' has 2; add images or leave the class out"
    )
    assert refused(Folder(path="photos")) == expected


def test_a_folder_beside_the_split_folders(tmp_path):
    for name in ("train/a", "train/b", "tset/a"):
        (tmp_path / name).mkdir(parents=True)
    assert f"{tmp_path}/tset stands beside" in refused(Folder(path=str(tmp_path)))


def test_two_folders_of_one_split(tmp_path):
    for name in ("train/a", "val/a", "valid/a"):
        (tmp_path / name).mkdir(parents=True)
    assert "one folder a split" in refused(Folder(path=str(tmp_path)))


def test_a_class_that_is_only_tested(tmp_path):
    for name in ("train/a", "train/b", "test/a", "test/c"):
        (tmp_path / name).mkdir(parents=True)
        for index in range(3):
            Image.new("L", (4, 4)).save(tmp_path / name / f"{index}.png")
    assert "must have 2 training images, but 'c' has 0" in refused(Folder(path=str(tmp_path)))


def test_fewer_images_than_classes_or_than_three_a_class(tmp_path):
    message = refused(save(tmp_path, images=IMAGES, labels=np.arange(8)))
    assert message.startswith("data: each class must have at least 3 images")
    assert "'0' has 1, '1' has 1, '2' has 1 and 5 more classes have too few" in message


def test_more_declared_classes_than_images_are_no_mistake_but_their_labels_must_fit(tmp_path):
    names = np.array([f"c{index}" for index in range(20)])
    assert save(tmp_path, images=IMAGES, labels=LABELS, classes=names).load().classes == ("c0", "c1")
    message = refused(save(tmp_path, images=IMAGES, labels=np.where(LABELS == 1, 20, 0), classes=names))
    assert "labels must be from 0 to 19, as 20 classes are declared, got 20 for" in message
    assert "images[1]" in message


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (LABELS + 0.5, "labels must be whole numbers, got 0.5 for"),
        (np.where(LABELS == 1, np.nan, 0.0), "images[1] is unlabelled (NaN)"),
        (np.full(8, -1), "are unlabelled (label -1)"),
        (np.array(["a", "", "b", "b"] * 2), "is unlabelled"),
        (LABELS.astype(complex), "labels must be whole numbers or names"),
        (np.zeros((8, 3)), "labels must have the shape (n,), got (8, 3)"),
        (LABELS[:5], "images has 8 and labels 5 entries"),
        (np.zeros(8, int), "must have at least two classes"),
    ],
)
def test_labels_that_are_none(tmp_path, labels, words):
    assert words in refused(save(tmp_path, images=IMAGES, labels=labels))


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.full((8, 4, 4), np.nan), "images[0] must be finite, got NaN or infinity"),
        (np.full((8, 4, 4), 7.0), "images must be floats from 0 to 1, got 7 to 7"),
        (np.full((8, 4, 4), -1), "images must be integers from 0 to 255, got -1 to -1"),
        (np.full((8, 4, 4), 300, np.uint16), "integers from 0 to 255, got 300 to 300"),
        (np.full((8, 4, 4), "a"), "images must be numbers, got the type <U1"),
        (np.zeros((8, 16)), "must have the shape (n, h, w)"),
        (np.zeros((8, 4, 4, 5)), "must have 1 or 3 channels, got the shape (8, 4, 4, 5)"),
        (np.zeros((8, 0, 4, 3)), "at least one pixel"),
    ],
)
def test_arrays_that_are_no_images(tmp_path, images, words):
    message = refused(save(tmp_path, images=images, labels=LABELS))
    assert words in message
    assert "a.npz" in message


def test_arrays_of_other_names_or_none(tmp_path):
    assert "must hold images and labels or x_train and y_train" in refused(save(tmp_path, pictures=IMAGES))
    assert "got nothing" in refused(save(tmp_path))
    assert "holds no images" in refused(save(tmp_path, images=IMAGES[:0], labels=LABELS[:0]))


def test_pickled_objects_are_not_read(tmp_path):
    with np.errstate(all="ignore"):
        np.savez(
            tmp_path / "a.npz", images=np.array([{"no": 1}], dtype=object), labels=np.array([0]), allow_pickle=True
        )
    assert "must hold plain arrays, got pickled objects" in refused(Npz(path=str(tmp_path / "a.npz")))


def test_a_broken_npz_and_a_single_array(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 broken")
    assert "a.npz cannot be read" in refused(Npz(path=str(tmp_path / "a.npz")))
    np.save(tmp_path / "b.npy", IMAGES)
    assert "must be an npz archive, got a single array" in refused(Npz(path=str(tmp_path / "b.npy")))


def parquet(path: Path, columns: dict[str, object]) -> Parquet:
    pq.write_table(pa.table(columns), path)
    return Parquet(path=str(path))


def image_rows(count: int) -> list[dict[str, object]]:
    file = io.BytesIO()
    Image.new("L", (4, 4)).save(file, format="PNG")
    return [{"bytes": file.getvalue(), "path": None} for _ in range(count)]


def test_an_unreadable_row_is_named(tmp_path):
    rows = image_rows(8)
    rows[5] = {"bytes": b"junk", "path": None}
    message = refused(parquet(tmp_path / "a.parquet", {"image": rows, "label": LABELS.tolist()}))
    assert message.startswith(f"data: {tmp_path}/a.parquet row 5 cannot be read as an image (")


def test_a_row_without_image_or_label_is_named(tmp_path):
    rows = image_rows(8)
    rows[2] = {"bytes": None, "path": None}
    assert "a.parquet row 2 has no image" in refused(
        parquet(tmp_path / "a.parquet", {"image": rows, "label": LABELS.tolist()})
    )
    labels = [None if index == 4 else index % 2 for index in range(8)]
    assert "a.parquet row 4 is unlabelled" in refused(
        parquet(tmp_path / "a.parquet", {"image": image_rows(8), "label": labels})
    )


def test_a_row_that_names_a_file_which_is_not_there(tmp_path):
    rows = image_rows(8)
    rows[3] = {"bytes": None, "path": "gone.png"}
    message = refused(parquet(tmp_path / "a.parquet", {"image": rows, "label": LABELS.tolist()}))
    assert f"row 3 names the file {tmp_path}/gone.png, which cannot be read" in message


def test_columns_that_are_not_there_or_hold_no_images(tmp_path):
    columns = {"img": image_rows(8), "label": LABELS.tolist()}
    message = refused(parquet(tmp_path / "a.parquet", columns))
    assert message.startswith("data.image_column: ")
    assert message.endswith("has no column 'image'; it has: img, label")
    columns = {"image": [[1, 2]] * 8, "label": LABELS.tolist()}
    assert "must hold {bytes, path} or bytes, got list" in refused(parquet(tmp_path / "a.parquet", columns))


def test_labels_of_two_kinds(tmp_path):
    pq.write_table(pa.table({"image": image_rows(4), "label": [0, 1, 0, 1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"image": image_rows(4), "label": ["x", "y", "x", "y"]}), tmp_path / "b.parquet")
    assert "labels must be all numbers or all names, got 0 and 'x'" in refused(Parquet(path=str(tmp_path)))


def test_a_file_that_is_no_parquet_and_a_folder_without_any(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"junk")
    assert "a.parquet cannot be read as Parquet (" in refused(Parquet(path=str(tmp_path)))
    (tmp_path / "a.parquet").unlink()
    assert "holds no .parquet file" in refused(Parquet(path=str(tmp_path)))
    assert "holds no .parquet file" in refused(Parquet(path=str(tmp_path / "*.parquet")))


def test_a_parquet_file_without_rows(tmp_path):
    empty = pa.table({"image": pa.array([], pa.binary()), "label": pa.array([], pa.int64())})
    pq.write_table(empty, tmp_path / "a.parquet")
    assert "holds no images" in refused(Parquet(path=str(tmp_path)))


def test_a_file_whose_split_is_unclear(tmp_path):
    for name in ("train", "more"):
        pq.write_table(pa.table({"image": image_rows(8), "label": LABELS.tolist()}), tmp_path / f"{name}.parquet")
    assert "more.parquet does not say in its name whether it is train" in refused(Parquet(path=str(tmp_path)))


@pytest.mark.parametrize(
    ("source", "package", "extra"),
    [
        (HuggingFace(name="someone/something"), "datasets", "nas[huggingface]"),
        (TorchVision(name="MNIST"), "torchvision", "nas[torchvision]"),
    ],
)
def test_a_missing_package_names_the_extra(monkeypatch, source, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    message = refused(source)
    assert f"'{package}'" in message
    assert message.endswith(f"pip install '{extra}'")


def test_names_that_are_missing_or_unknown():
    assert refused(HuggingFace()).startswith("data.name: must name a data set of the Hugging Face hub")
    assert refused(TorchVision()).startswith("data.name: must name a data set of torchvision")
    assert "did you mean FashionMNIST?" in refused(TorchVision(name="FashonMNIST"))
