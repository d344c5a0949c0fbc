"""``.tflite`` files of a trained network, for LiteRT and for what else reads them.

Responsible for making each precision once a network, and for choosing among the ways to make it: by agreement with
torch on the calibration images, never on the test images.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from nas.deploy.judge import FileJudgement, compare
from nas.deploy.options import DeployOptions
from nas.deploy.targets.calibration import calibration_images
from nas.deploy.targets.executorch_process import ConverterProcess
from nas.deploy.targets.executorch_program import write_images, write_program
from nas.deploy.targets.extras import Extra
from nas.deploy.targets.litert_flatbuffer import give_float_interface
from nas.deploy.targets.target import Source
from nas.errors import UserError

LITERT = Extra(
    name="litert",
    pins={
        "litert-torch": ("0.10", "0.11"),
        "ai-edge-litert": ("2.3", "2.4"),
        "ai-edge-quantizer": ("0.10", "0.11"),
        "torchao": ("0.18", "0.19"),
    },
)
_CONVERT = "nas.deploy.targets.litert_convert"
# From so much agreement on, another way to find ranges has too little to gain for its conversion.
_ENOUGH_AGREEMENT = 0.995
_INT4_LEAST = 0.97  # share of torch's classes for which a smaller form of INT4 is taken
# From fewest to most bytes, in general.
_INT4_RECIPES = ("int4-all-blocks", "int4-all", "int4-products-blocks", "int4-products")
_INT4_WORDS = {
    "int4-all-blocks": "matrix products in blocks of 32 and convolutions by channel in int4, depthwise ones in int8",
    "int4-all": "matrix products and convolutions in int4 by channel, depthwise ones in int8",
    "int4-products-blocks": "matrix products in int4, in blocks of 32, all else in int8",
    "int4-products": "matrix products in int4 by channel, all else in int8",
}


@dataclass(frozen=True, kw_only=True)
class Made:
    """A file and how it was made.

    Attributes:
        path: of the file.
        notes: a sentence each.
    """

    path: Path
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    path: Path
    words: str
    judgement: FileJudgement


@dataclass(frozen=True, kw_only=True, eq=False)
class TfliteFiles:
    """Makes ``.tflite`` files; the converters' process and the float32 files are kept for the next call.

    Attributes:
        options: how many images calibrate, and the agreement that INT4 files must have.
        process: that converts and runs.
    """

    options: DeployOptions
    process: ConverterProcess
    _scratch: str = field(default_factory=lambda: tempfile.mkdtemp(prefix="nas-litert-"), init=False, repr=False)
    _folders: weakref.WeakKeyDictionary[Source, Path] = field(
        default_factory=weakref.WeakKeyDictionary, init=False, repr=False
    )

    def __post_init__(self) -> None:
        weakref.finalize(self, shutil.rmtree, self._scratch, True)

    def make(self, source: Source, precision: str, path: Path) -> Made:
        """Writes the file of a precision; input and output are float32.

        Raises:
            UserError: the network cannot be converted, or not in this precision.
        """
        made = {
            "float32": self._float32,
            "float16": self._float16,
            "int8": self._int8_with_floats,
            "int8-dynamic": self._dynamic,
            "int4": self._int4,
        }[precision](source)
        shutil.copyfile(made.path, path)
        return Made(path=path, notes=made.notes)

    def integer_file(self, source: Source) -> Made:
        """The static INT8 file whose input and output are int8 too; in a scratch folder.

        Raises:
            UserError: as `make`, and where there is no image to calibrate with.
        """
        calibration = self._calibration(source)
        folder = self._folder(source)
        chosen, others = self._ranged(source, folder, calibration), ""
        if chosen.judgement.agreement < _ENOUGH_AGREEMENT:
            other = self._observed(source, folder, calibration)
            if other is not None:
                pair = sorted((chosen, other), key=lambda one: (-one.judgement.agreement, one.judgement.relative_error))
                chosen, others = pair[0], f"; {pair[1].words}: {_percent(pair[1].judgement)}"
        words = f"ranges by {chosen.words}: {_percent(chosen.judgement)} of torch's classes on the calibration images"
        return Made(path=chosen.path, notes=(words + others,))

    def logits(self, path: Path, images: Path, *, reference: bool = False) -> tuple[np.ndarray, dict[str, object]]:
        """Logits ``(n, classes)`` of a file for images in a ``.npy`` file, and the figures of `litert_run.run`."""
        with tempfile.TemporaryDirectory(prefix="nas-litert-") as folder:
            out = Path(folder) / "logits.npy"
            figures = self.process.call(
                "nas.deploy.targets.litert_run:run",
                path=str(path.resolve()),
                images=str(images),
                logits=str(out),
                reference=reference,
            )
            return np.load(out), figures

    def _float32(self, source: Source) -> Made:
        folder = self._folder(source)
        path = folder / "float32.tflite"
        if not path.exists():
            self.process.call(f"{_CONVERT}:convert", program=str(self._program(source, folder)), path=str(path))
        return Made(path=path, notes=())

    def _float16(self, source: Source) -> Made:
        path = self._quantised(source, "float16")
        return Made(path=path, notes=("weights are float16; activations are computed in the runtime's own precision",))

    def _dynamic(self, source: Source) -> Made:
        return Made(path=self._quantised(source, "dynamic"), notes=("activations are quantised at run time",))

    def _int8_with_floats(self, source: Source) -> Made:
        made = self.integer_file(source)
        path = made.path.with_name("int8-floats.tflite")
        shutil.copyfile(made.path, path)
        give_float_interface(path)
        return Made(path=path, notes=made.notes)

    def _int4(self, source: Source) -> Made:
        calibration = self._calibration(source)
        candidates, refusal = [], None
        for recipe in _INT4_RECIPES:
            try:
                path = self._quantised(source, recipe)
            except UserError as error:  # blocks of 32 want channels that are multiples
                refusal = error
                continue
            candidates.append(self._candidate(source, path, _INT4_WORDS[recipe], calibration))
        if not candidates:
            assert refusal is not None
            raise refusal
        good = [one for one in candidates if one.judgement.agreement >= max(self.options.min_agreement, _INT4_LEAST)]
        chosen = (
            min(good, key=lambda one: one.path.stat().st_size)
            if good
            else max(candidates, key=lambda one: one.judgement.agreement)
        )
        share = f"{_percent(chosen.judgement)} of torch's classes on the calibration images"
        return Made(path=chosen.path, notes=(f"{chosen.words}: {share}",))

    def _quantised(self, source: Source, recipe: str) -> Path:
        float_file = self._float32(source).path
        path = float_file.with_name(f"{recipe}.tflite")
        self.process.call(f"{_CONVERT}:quantise", float_file=str(float_file), path=str(path), recipe=recipe)
        return path

    def _ranged(self, source: Source, folder: Path, calibration: Path) -> _Candidate:
        path = folder / "int8.tflite"
        self.process.call(
            f"{_CONVERT}:quantise",
            float_file=str(self._float32(source).path),
            path=str(path),
            recipe="static",
            calibration=str(calibration),
        )
        return self._candidate(source, path, "ai-edge-quantizer with true extremes", calibration)

    def _observed(self, source: Source, folder: Path, calibration: Path) -> _Candidate | None:
        """The pt2e way; None where its quantizer refuses the network, as the other way's file is there."""
        path = folder / "int8-pt2e.tflite"
        try:
            self.process.call(
                f"{_CONVERT}:convert_calibrated",
                program=str(self._program(source, folder)),
                path=str(path),
                calibration=str(calibration),
            )
        except UserError:
            return None
        return self._candidate(source, path, "torch's pt2e", calibration)

    def _candidate(self, source: Source, path: Path, words: str, calibration: Path) -> _Candidate:
        reference = _torch_logits(source.module, calibration)
        logits, _ = self.logits(path, calibration)
        judgement = compare(logits, reference.argmax(axis=1), reference)
        return _Candidate(path=path, words=words, judgement=judgement)

    def _folder(self, source: Source) -> Path:
        if source not in self._folders:
            self._folders[source] = Path(tempfile.mkdtemp(dir=self._scratch))
        return self._folders[source]

    def _program(self, source: Source, folder: Path) -> Path:
        path = folder / "program.pt2"
        if not path.exists():
            write_program(source.module, source.input_shape, path)
        return path

    def _calibration(self, source: Source) -> Path:
        path = self._folder(source) / "calibration.npy"
        if not path.exists():
            write_images(calibration_images(source, self.options.calibration_images), path)
        return path


def _torch_logits(module: nn.Module, images: Path) -> np.ndarray:
    with torch.inference_mode():
        logits: np.ndarray = module(torch.from_numpy(np.load(images))).numpy()
        return logits


def _percent(judgement: FileJudgement) -> str:
    return f"{judgement.agreement:.1%}"
