"""Targets by name.

Responsible for the one list of names. Importing it imports no runtime: a target's file is imported when it is opened.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from nas.deploy.options import DeployOptions
from nas.errors import unknown_name

if TYPE_CHECKING:  # it brings torch, which a list of names can do without
    from nas.deploy.targets.target import Target

# name -> module, class. A class takes `options: DeployOptions` by keyword.
_TARGETS: dict[str, tuple[str, str]] = {
    "onnxruntime": ("nas.deploy.targets.onnxruntime", "OnnxRuntime"),
    "openvino": ("nas.deploy.targets.openvino", "OpenVino"),
    "litert": ("nas.deploy.targets.litert", "LiteRt"),
    "executorch": ("nas.deploy.targets.executorch", "ExecuTorch"),
    "coreml": ("nas.deploy.targets.coreml", "CoreMl"),
    "tensorrt": ("nas.deploy.targets.tensorrt", "TensorRt"),
    "qnn": ("nas.deploy.targets.qnn", "Qnn"),
    "microcontroller": ("nas.deploy.targets.microcontroller", "Microcontroller"),
}
TARGETS: tuple[str, ...] = tuple(_TARGETS)


def open_target(name: str, options: DeployOptions | None = None) -> Target:
    """The target called ``name``, whether it is available or not.

    Args:
        name: one of `TARGETS`.
        options: how its files are made and gated; None: the defaults.

    Raises:
        UserError: an unknown name.
    """
    if name not in _TARGETS:
        raise unknown_name("targets", "target", name, TARGETS)
    module, kind = _TARGETS[name]
    made: Target = getattr(importlib.import_module(module), kind)(options=options or DeployOptions())
    return made
