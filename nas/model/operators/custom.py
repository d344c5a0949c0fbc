"""Operators that users bring: ``op: package.module.Name``.

Responsible for importing them, from permitted packages only, and for telling a user's error from ours.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from nas.errors import UserError
from nas.model.shapes import DoesNotFit, InputShape


@dataclass(frozen=True, kw_only=True)
class Custom:
    """A module class or function of the user's.

    It is called as ``Name(in_channels=<channels of its input>, **parameters)`` and returns a `torch.nn.Module` that
    takes ``(n, in_channels, h, w)``, for any ``n``. Its output's shape is found by tracing it. A TypeError means wrong
    parameters and ends the run; any other exception means that it does not fit this input, as does one in forward.

    Attributes:
        path: ``package.module.Name``.
        make: what that names.
        parameters: as in the template.
    """

    path: str
    make: Callable[..., object]
    parameters: Mapping[str, object]

    def build(self, in_shape: InputShape, num_classes: int) -> nn.Module:
        try:
            module = self.make(in_channels=in_shape[0], **self.parameters)
        except TypeError as error:
            given = ", ".join(["in_channels", *self.parameters])
            raise UserError(
                "op",
                f"{self.path} must be callable with ({given}), got TypeError: {_one_line(error)}",
                "check the parameters in the template against its signature",
            ) from error
        except Exception as error:
            told = f"{type(error).__name__}: {_one_line(error)}"
            raise DoesNotFit("op", f"{self.path} cannot be made with these parameters, got {told}") from error
        if not isinstance(module, nn.Module):
            raise UserError("op", f"{self.path} must return a torch.nn.Module, got {type(module).__name__}")
        return module


def import_operator(path: str, parameters: Mapping[str, object], *, allow: Sequence[str]) -> Custom:
    """The operator that an import path names.

    Args:
        path: ``package.module.Name``.
        parameters: to call it with.
        allow: packages or modules that may be imported, e.g. ``("my_project",)``.

    Raises:
        UserError: a path outside ``allow``, a module that cannot be imported, or a name that is not in it.
    """
    if not any(path.startswith(prefix.rstrip(".") + ".") for prefix in allow):
        listed = ", ".join(allow) or "none"
        raise UserError(
            "op", f"must come from an allowed package ({listed}), got '{path}'", "add its package to `allow`"
        )
    module_name, _, name = path.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise UserError(
            "op",
            f"'{module_name}' cannot be imported: {type(error).__name__}: {_one_line(error)}",
            "is it installed, or on PYTHONPATH?",
        ) from error
    make = getattr(module, name, None)
    if not callable(make):
        raise UserError("op", f"'{module_name}' has no class or function '{name}'")
    return Custom(path=path, make=make, parameters=dict(parameters))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
