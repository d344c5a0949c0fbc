"""Files as somebody who means harm would write them, and the trap that shows whether any of it was run.

Everything that is run here, if anything is, writes the file that ``$NAS_CANARY`` names.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

RUN = Path("runs/tiny")
# What a careless reader would run. As a module it is found in the current folder.
CODE = "import os\n\nwith open(os.environ['NAS_CANARY'], 'w') as file:\n    file.write('run')\n"
MODULE = f"{CODE}\n\nclass Trap:\n    pass\n\n\ndef trap(in_channels):\n    pass\n"
DEEP = "[" * 100_000 + "]" * 100_000
NESTED = "[" * 600 + "]" * 600  # enough for YAML, which takes its time
# Nine lines that stand for 10^9 values.
LAUGHS = "a0: &a0 lol\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 10)
)
ESCAPES = "\x1b]0;owned\x07\x1b[2J\u202e"


class Trap:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return exec, (CODE,)


def pickled_npz(path: Path, name: str = "images") -> None:
    """An npz file whose array is a pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": (1,)})
        archive.writestr(f"{name}.npy", header.getvalue() + pickle.dumps(np.array([Trap()], dtype=object)))


def endless_npz(path: Path, *names: str) -> None:
    """An npz file of a few kilobytes that says it stands for 2^50 numbers."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 50,)})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names or ("images", "labels"):
            archive.writestr(f"{name}.npy", header.getvalue() + bytes(100_000))


def png(width: int, height: int) -> bytes:
    """A small PNG file that says it is of that size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(canary) (w) file closefile\n%%EOF\n"


def photos(content: bytes) -> None:
    """``photos/<class>/<number>.png``, all of that content."""
    for name in ("cat", "dog"):
        folder = Path("photos") / name
        folder.mkdir(parents=True)
        for number in range(20):
            (folder / f"{number}.png").write_bytes(content)


def manifest(**changed: object) -> None:
    """Changes sections of the run's manifest."""
    path = RUN / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


def overrides(*added: str) -> None:
    """Adds to what the run says that it was started with."""
    before = json.loads((RUN / "manifest.json").read_text())["overrides"]
    manifest(overrides=[*before, *added])


def history(change: Callable[[dict[str, Any]], object]) -> None:
    """Changes the second evaluation of the run."""
    path = RUN / "history.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    change(lines[1])
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def second_line(text: str) -> None:
    """Replaces the second line of the run's history."""
    path = RUN / "history.jsonl"
    lines = path.read_text().splitlines()
    lines[1] = text
    path.write_text("\n".join(lines) + "\n")


def a_model() -> Path:
    return sorted((RUN / "models").iterdir())[0]


def replaced(folder: Path, name: str, content: bytes) -> None:
    """Replaces a file of a model folder, and corrects its checksum in the manifest: the writer means it."""
    (folder / name).write_bytes(content)
    path = folder / "manifest.json"
    record = json.loads(path.read_text())
    for entry in (*record["contents"], *record["files"]):
        if entry["path"] == name:
            entry |= {"sha256": sha256(content).hexdigest(), "bytes": len(content)}
    path.write_text(json.dumps(record))


def listed(folder: Path, name: str) -> None:
    """Has the manifest of a model folder list a file of that name."""
    path = folder / "manifest.json"
    record = json.loads(path.read_text())
    record["contents"][0]["path"] = name
    path.write_text(json.dumps(record))


def onnx_beside(folder: Path, place: str) -> None:
    """A model whose weights lie in another file, at a place of the writer's choice."""
    import onnx

    path = folder / "model.fp32.onnx"
    model = onnx.load(path)
    tensor = next(one for one in model.graph.initializer if one.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", place
    replaced(folder, path.name, model.SerializeToString())


def zipped(folder: Path, path: Path, *, renamed: Mapping[str, str] | None = None, added: bytes | None = None) -> None:
    """A bundle as a zip file, with names of the writer's choice."""
    names = dict(renamed or {})
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(entry for entry in folder.rglob("*") if entry.is_file()):
            name = file.relative_to(folder).as_posix()
            archive.writestr(zipfile.ZipInfo(names.get(name, name)), file.read_bytes())
        if added is not None:
            archive.writestr("../canary", added)


def linked(path: Path, target: Path) -> Path:
    """Replaces a file by a link."""
    path.unlink(missing_ok=True)
    path.symlink_to(target)
    return path


def a_pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def far_away(text: str = "") -> Path:
    """The folder of a device that is never measured, so that only a stored predictor can say something of it."""
    folder = Path("latency_models/far-away")
    folder.mkdir(parents=True)
    (folder / "device.yaml").write_text(text or "name: far-away\nwhere: none\n")
    return folder


def predictor(change: Callable[[dict[str, Any], dict[str, np.ndarray]], object]) -> Path:
    """The predictor of this machine as one of the device far away, changed."""
    folder = far_away()
    source = Path("latency_models/this-machine/small-1x8x8-10-float32.npz")
    with np.load(source) as stored:
        arrays = {name: stored[name] for name in stored.files}
    record = json.loads(str(arrays.pop("record")))
    record |= {"device": "far-away", "fingerprint": {}}
    change(record, arrays)
    path = folder / source.name
    np.savez(path, record=np.array(json.dumps(record)), **arrays)
    return path


def a_second_run() -> Path:
    return Path(shutil.copytree(RUN, "runs/other"))


def stray_table() -> None:
    """A table whose rows name an image that lies elsewhere."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    Path("tables").mkdir()
    Path("elsewhere.png").write_bytes(png(8, 8))
    image = {"bytes": None, "path": "../elsewhere.png"}
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = {"image": pa.array([image] * 40, type=kind), "label": pa.array([number % 2 for number in range(40)])}
    pq.write_table(pa.table(rows), "tables/a.parquet")


def odd_measurements() -> None:
    """A line in the middle of what was measured that is none."""
    Path("latency_models/this-machine/small-1x8x8-10-float32.npz").unlink()
    path = Path("latency_models/this-machine/measurements/small-1x8x8-10-float32.jsonl")
    lines = path.read_text().splitlines()
    lines[1] = '{"latency_ms": 1e999, "row": "__import__"}'
    path.write_text("\n".join(lines) + "\n")


def groups_of_the_run() -> None:
    """A run that was begun with a folder of groups, which came with it."""
    folder = Path("groups/data")
    folder.mkdir(parents=True)
    text = "# @package _global_\nhydra:\n  callbacks:\n    x: {_target_: trap.Trap}\n"
    (folder / "theirs.yaml").write_text(text)
    overrides("data=theirs")
    manifest(config_dir="groups")


def zip_without_end() -> None:
    """A bundle in which a file is a hundred megabytes of nothing."""
    text = Path("given/README.md").read_bytes()
    Path("given/README.md").unlink()
    zipped(Path("given"), Path("b.zip"))
    with zipfile.ZipFile("b.zip", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("README.md", bytes(100_000_000))
    Path("given/README.md").write_bytes(text)


def zip_with_link() -> None:
    zipped(Path("given"), Path("b.zip"))
    entry = zipfile.ZipInfo("a-link")
    entry.external_attr = 0o120777 << 16
    with zipfile.ZipFile("b.zip", "a") as archive:
        archive.writestr(entry, "/etc/passwd")


def bundle_text(text: str) -> None:
    """Replaces the manifest of the bundle."""
    Path("given/manifest.json").write_text(text)


def bundle_lists(name: str) -> None:
    """Has the manifest of the bundle list another file."""
    path = Path("given/manifest.json")
    record = json.loads(path.read_text())
    record["contents"][0]["path"] = name
    path.write_text(json.dumps(record))


def bundle_without_number() -> None:
    """Puts into the manifest of the bundle what is no number in JSON."""
    path = Path("given/manifest.json")
    path.write_text(path.read_text().replace('"format": 1', '"format": NaN', 1))
