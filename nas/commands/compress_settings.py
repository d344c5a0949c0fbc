"""What `nas compress` is told, as a frozen record that checks itself. Mirrors `conf/compress.yaml`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from nas.deploy.bundle.write import Licences
from nas.deploy.options import PRECISIONS, DeployOptions
from nas.deploy.targets.registry import TARGETS
from nas.errors import UserError, unknown_name
from nas.train.checks import check_number
from nas.train.compression.options import CompressOptions
from nas.train.compression.sparsity import Sparsity, check_sparsity
from nas.train.data.digits import Digits
from nas.train.data.images import DataSource
from nas.train.recipe import Recipe

BUDGETS = ("size", "latency", "accuracy")
_SHAPE = re.compile(r"(\d+)x(\d+)x(\d+)")


@dataclass(frozen=True, kw_only=True)
class CompressSettings:
    """The whole of ``nas compress``. Every field has the default of the command.

    Attributes:
        model: ``package.module:function``, which returns a trained `torch.nn.Module` and whose package is in
            ``allow``, or the path of a float32 ``.onnx`` file.
        data: images that it classifies, with its classes in its order.
        input: ``channels x height x width`` that it takes, e.g. ``3x32x32``; None: the data's own. Images of another
            size are resized.
        mean, std: by channel, or one for all: the model takes ``(pixel / 255 - mean) / std``; None: those of the
            training images.
        precisions: of the files that are made by calibration, float32 among them.
        budget: ``size``, ``latency`` and ``accuracy`` that a file must keep, quantities with units; None is no limit.
            With one on size or latency a file of mixed precision is made to it.
        prune: shares of the channels of each layer to drop, one network each.
        sparsity: shares of the weights that become zero, or ``2:4``, one network each.
        epochs: of training after channels or weights went.
        targets: further runtimes that a torch module's forms get files for, e.g. ``litert`` (docs/targets.md).
        device: that files are timed on.
        recipe: of these trainings; their learning rate is a share of its.
        deploy: how files are made and gated.
        compress: who teaches (``largest``: the model itself), how zeros come, whether INT8 is trained for.
        bundle: write the bundle of the front too, a folder and a zip file (docs/bundle.md).
        licences: of weights and data, for the bundle.
        out: folder of what comes of it; None: ``compressed/<date>-<model>``.
        seed: of the order of images.
        allow: packages that the model and configured classes may come from.
    """

    model: str
    data: DataSource = field(default_factory=Digits)
    input: str | None = None
    mean: float | Sequence[float] | None = None
    std: float | Sequence[float] | None = None
    precisions: Sequence[str] = PRECISIONS
    budget: Mapping[str, object] = field(default_factory=dict)
    prune: Sequence[float] = (0.5,)
    sparsity: Sequence[Sparsity] = ()
    epochs: int = 10
    targets: Sequence[str] = ()
    device: str = "this-machine"
    recipe: Recipe = field(default_factory=Recipe)
    deploy: DeployOptions = field(default_factory=DeployOptions)
    compress: CompressOptions = field(default_factory=lambda: CompressOptions(distil="largest", qat_epochs=3))
    bundle: bool = True
    licences: Licences = field(default_factory=Licences)
    out: str | None = None
    seed: int = 0
    allow: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in self.precisions:
            if name not in PRECISIONS:
                raise unknown_name("precisions", "precision", name, PRECISIONS)
        if "float32" not in self.precisions or len(set(self.precisions)) != len(self.precisions):
            problem = f"must name float32, and each precision once, got {list(self.precisions)}"
            raise UserError("precisions", problem, "the other precisions are made from float32")
        for name in self.targets:
            if name not in TARGETS:
                raise unknown_name("targets", "target", name, TARGETS)
        if self.targets and self.is_file:
            problem = f"must be [] for an ONNX file, got {list(self.targets)}"
            raise UserError("targets", problem, "files for other runtimes are made from package.module:function")
        for name in self.budget:
            if name not in BUDGETS:
                raise unknown_name("budget", "budget", name, BUDGETS)
        for share in self.prune:
            check_number("prune", share, low=0, high=1, above_low=True, below_high=True)
        for zeros in self.sparsity:
            check_sparsity("sparsity", zeros)
        check_number("epochs", self.epochs, low=0, integer=True)
        check_number("seed", self.seed, low=0, integer=True)
        if self.input is not None and not _SHAPE.fullmatch(self.input):
            raise UserError("input", f"must be channels x height x width, got {self.input!r}", "e.g. 3x32x32")
        if not isinstance(self.bundle, bool):
            raise UserError("bundle", f"must be true or false, got {self.bundle!r}")
        if (self.mean is None) != (self.std is None):
            raise UserError("mean", "must be given together with std", "e.g. mean=0.5 std=0.5")

    @property
    def is_file(self) -> bool:
        """Whether the model is an ONNX file; else it is a function."""
        return self.model.lower().endswith(".onnx")

    @property
    def input_shape(self) -> tuple[int, int, int] | None:
        """Channels, height and width that were given."""
        if self.input is None:
            return None
        channels, height, width = (int(part) for part in self.input.split("x"))
        return channels, height, width

    @property
    def name(self) -> str:
        """Of the model, as a folder may be called: the file's stem, or the function."""
        text = Path(self.model).stem if self.is_file else self.model.rpartition(":")[2]
        return re.sub(r"[^\w.-]+", "-", text).strip("-.") or "model"

    @property
    def place(self) -> Path:
        """The folder of what comes of it; a new one each time where none is given."""
        if self.out is not None:
            return Path(self.out)
        first = Path("compressed") / f"{date.today().isoformat()}-{self.name}"
        place, number = first, 1
        while place.exists():
            number += 1
            place = first.with_name(f"{first.name}-{number}")
        return place


def normalisation(settings: CompressSettings, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """``mean`` and ``std`` by channel; None where none are given.

    Raises:
        UserError: another number of them than channels, or a deviation that is not above 0.
    """
    if settings.mean is None or settings.std is None:
        return None
    found = []
    for name, given in (("mean", settings.mean), ("std", settings.std)):
        values = tuple(given) if isinstance(given, Sequence) else (given,) * channels
        for value in values:
            check_number(name, value, low=0, above_low=name == "std", advice="pixels are divided by 255 first")
        if len(values) != channels:
            problem = f"must be one number, or one for each of {channels} channels, got {list(values)}"
            raise UserError(name, problem)
        found.append(tuple(float(value) for value in values))
    return found[0], found[1]
