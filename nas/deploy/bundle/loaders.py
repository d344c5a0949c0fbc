"""Loaders and benchmark scripts of a bundle, generated for one model.

Responsible for which of them a model gets, and for saying of each how far it was checked: C++ is compiled and run in
the tests of this project, the shared parts of Kotlin and Swift were compiled and run on Linux, and what needs a phone's
or a Mac's runtime never ran.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.deploy.bundle.text import (
    comment,
    cpp_string,
    fill,
    floats,
    kotlin_string,
    shell_words,
    swift_string,
    template,
)

_ORT = "onnxruntime"
_CPP = "this template is compiled and run against golden outputs in the tests of nas; this very copy was not"
_KOTLIN = "this template was compiled by kotlinc 2.4 and run on a JVM; this very copy was not compiled"
_SWIFT = "this template was compiled by Swift 6.0 and run on Linux; this very copy was not compiled"
_NOT_COMPILED = "never compiled against its runtime, never run"
_SYNTAX = "checked by bash -n in the tests of nas; never run on a device"


@dataclass(frozen=True, kw_only=True)
class Loader:
    """Code that is generated.

    Attributes:
        template: its name below ``templates``; also where it goes, below ``loaders``.
        language, runtime: of the code; "" for what needs no runtime.
        targets: of whose files one must be in the bundle.
        checked: how far.
    """

    template: str
    language: str
    runtime: str
    targets: tuple[str, ...]
    checked: str


LOADERS = (
    Loader(template="cpp/nas_model.hpp", language="C++", runtime=_ORT, targets=(_ORT,), checked=_CPP),
    Loader(template="cpp/check_golden.cpp", language="C++", runtime=_ORT, targets=(_ORT,), checked=_CPP),
    Loader(template="cpp/CMakeLists.txt", language="CMake", runtime=_ORT, targets=(_ORT,), checked=_CPP),
    Loader(template="kotlin/NasModel.kt", language="Kotlin", runtime="", targets=(_ORT, "litert"), checked=_KOTLIN),
    Loader(
        template="kotlin/NasModelOnnxRuntime.kt",
        language="Kotlin",
        runtime="onnxruntime-android",
        targets=(_ORT,),
        checked=_NOT_COMPILED,
    ),
    Loader(
        template="kotlin/NasModelLiteRt.kt",
        language="Kotlin",
        runtime="litert",
        targets=("litert",),
        checked=_NOT_COMPILED,
    ),
    Loader(
        template="kotlin/build.gradle.kts.snippet",
        language="Gradle",
        runtime="",
        targets=(_ORT, "litert"),
        checked=_NOT_COMPILED,
    ),
    Loader(template="swift/NasModel.swift", language="Swift", runtime="", targets=(_ORT, "coreml"), checked=_SWIFT),
    Loader(
        template="swift/NasModelOnnxRuntime.swift",
        language="Swift",
        runtime="onnxruntime-objc",
        targets=(_ORT,),
        checked=_NOT_COMPILED,
    ),
    Loader(
        template="swift/NasModelCoreML.swift",
        language="Swift",
        runtime="coreml",
        targets=("coreml",),
        checked=_NOT_COMPILED,
    ),
)
# Script -> target whose files it times.
BENCHMARKS = {"adb_onnxruntime.sh": _ORT, "adb_litert.sh": "litert", "adb_qnn.sh": "qnn", "trtexec.sh": "tensorrt"}


def write_loaders(
    folder: Path, model: Mapping[str, Any], files: Sequence[Mapping[str, Any]], *, num_samples: int
) -> list[dict[str, str]]:
    """Writes the loaders that a model's files call for into ``folder/loaders``.

    Args:
        folder: of the model in the bundle.
        model: its manifest, as of a model folder.
        files: entries of the model's files; paths relative to ``folder``.
        num_samples: in the golden arrays.

    Returns:
        The manifest's entry of each, paths relative to ``folder``.
    """
    there = {entry["target"] for entry in files}
    entries = []
    for loader in LOADERS:
        if not there & set(loader.targets):
            continue
        path = Path("loaders") / loader.template
        fields = _fields(loader, model, files, num_samples)
        _write(folder / path, fill(template(loader.template), fields))
        entries.append(
            {"path": path.as_posix(), "language": loader.language, "runtime": loader.runtime, "checked": loader.checked}
        )
    return entries


def write_benchmarks(
    folder: Path, model: Mapping[str, Any], files: Sequence[Mapping[str, Any]]
) -> list[dict[str, str]]:
    """Writes the benchmark scripts that a model's files call for into ``folder/bench``; returns as `write_loaders`."""
    entries = []
    for name, target in BENCHMARKS.items():
        own = [entry for entry in files if entry["target"] == target]
        if not own:
            continue
        scripts = [extra for entry in own for extra in entry["extras"] if extra.endswith(".sh")]
        fields = {
            "digest": str(model["digest"]),
            "files": shell_words(entry["path"] for entry in own),
            "scripts": shell_words(scripts),
        }
        path = Path("bench") / name
        _write(folder / path, fill(template(f"bench/{name}"), fields))
        (folder / path).chmod(0o755)
        entries.append({"path": path.as_posix(), "language": "bash", "runtime": target, "checked": _SYNTAX})
    return entries


def _fields(
    loader: Loader, model: Mapping[str, Any], files: Sequence[Mapping[str, Any]], num_samples: int
) -> dict[str, str]:
    entry, leaving = model["input"], model["output"]
    _, channels, height, width = entry["shape"]
    suffix, text = _LITERALS.get(loader.language, ("", cpp_string))
    own = [file for file in files if file["target"] == _ORT and file["expected"]]
    cases = ", ".join(
        f"{{{cpp_string(file['path'])}, {cpp_string('golden/' + file['expected'] + '.bin')}, {file['tolerance']:g}}}"
        for file in own
    )
    versions = [str(file["runtime_version"]) for file in files if file["target"] == _ORT]
    return {
        "digest": comment(str(model["digest"])),
        "channels": str(channels),
        "height": str(height),
        "width": str(width),
        "num_classes": str(len(model["labels"])),
        "input_name": text(entry["name"]),
        "output_name": text(leaving["name"]),
        "mean": floats(entry["mean"], suffix),
        "std": floats(entry["std"], suffix),
        "labels": ", ".join(text(label) for label in model["labels"]),
        "channel_order": comment(str(entry["channels"])),
        "resize": comment(str(entry["resize"])),
        "checked": comment(loader.checked[0].upper() + loader.checked[1:] + "."),
        "cases": cases,
        "num_samples": str(num_samples),
        "onnxruntime_version": versions[0] if versions else "1.20.0",
    }


# Language -> suffix of a float literal, and how a string is written.
_LITERALS: dict[str, tuple[str, Callable[[str], str]]] = {
    "C++": ("F", cpp_string),
    "Kotlin": ("f", kotlin_string),
    "Swift": ("", swift_string),
}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
