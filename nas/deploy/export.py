"""torch modules -> float32 ONNX files.

Responsible for the file's contract: input ``input`` ``(batch, c, h, w)`` float32 with a free batch, output ``logits``
``(batch, classes)``, evaluation mode, opset 20. Two exporters give it; `docs/decisions/0002-exporter.md` says why
both are kept.
"""

from __future__ import annotations

import logging
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from nas.deploy.graph import lean, write_model
from nas.deploy.node_names import name_after_modules
from nas.deploy.options import EXPORTERS, Exporter
from nas.errors import UserError, first_line, unknown_name

INPUT, OUTPUT, BATCH = "input", "logits", "batch"
OPSET = 20
# With one example the exporters may take the batch for a constant.
_EXAMPLES = 2
_OPERATOR = re.compile(r"'([a-z_]\w*(?:::|\.)\w+)'")


def export_onnx(
    module: nn.Module, input_shape: tuple[int, int, int], path: Path, *, exporter: Exporter = "torchscript"
) -> None:
    """Writes ``module`` as ONNX; two exports of one module are equal byte for byte.

    Args:
        module: float32, takes ``(n, *input_shape)`` and gives logits ``(n, classes)``. Its mode, also that of each
            submodule, is the same afterwards.
        input_shape: channels, height and width of what the module takes.
        path: of the file; replaced in one step.
        exporter: ``torchscript`` is some thirty times faster, ``dynamo`` is what torch goes on with.

    Raises:
        UserError: an unknown exporter, or an operator that has no ONNX form; names the operator and the submodule.
    """
    if exporter not in EXPORTERS:
        raise unknown_name("deploy.exporter", "exporter", exporter, EXPORTERS)
    write = _WRITERS[exporter]
    device = next((tensor.device for tensor in module.state_dict().values()), torch.device("cpu"))
    example = torch.zeros((_EXAMPLES, *input_shape), device=device)
    with _evaluation_mode(module), torch.no_grad(), _quiet():
        module(example)  # a module that does not run is the caller's error, and not the exporter's
        try:
            model = name_after_modules(onnx.load_from_string(write(module, (example,))))
        except Exception as error:  # the exporters' errors share no public base class
            raise _refusal(module, example, error, write) from error
        try:
            write_model(lean(model), path)
        except onnx.checker.ValidationError as error:
            problem = f"was exported to a graph that breaks ONNX's rules: {first_line(error)}"
            raise UserError(path.name, problem, "try deploy.exporter=dynamo") from error


def _write_torchscript(module: nn.Module, examples: tuple[Tensor, ...]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="nas-export-") as folder:
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            module,
            examples,
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: BATCH}, OUTPUT: {0: BATCH}},
        )
        return path.read_bytes()


def _write_dynamo(module: nn.Module, examples: tuple[Tensor, ...]) -> bytes:
    program = torch.onnx.export(
        module,
        examples,
        dynamo=True,
        opset_version=OPSET,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=tuple({0: torch.export.Dim(BATCH)} for _ in examples),
        external_data=False,
        verbose=False,
    )
    assert program is not None
    proto: Any = program.model_proto
    return bytes(proto.SerializeToString())


_WRITERS: dict[Exporter, Callable[[nn.Module, tuple[Tensor, ...]], bytes]] = {
    "torchscript": _write_torchscript,
    "dynamo": _write_dynamo,
}


@contextmanager
def _evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Evaluation mode within, and each submodule's own mode again afterwards."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences what the exporters say about their own future; tracer warnings about the module's code still show."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logger.setLevel(level)


def _refusal(
    module: nn.Module, example: Tensor, error: Exception, write: Callable[[nn.Module, tuple[Tensor, ...]], bytes]
) -> UserError:
    """Whose fault it was: the deepest submodule that cannot be exported by itself."""
    where, culprit = "", module
    for name, part, inputs in _calls(module, example):
        try:
            write(part, inputs)
        except Exception as found:  # as in `export_onnx`
            where, culprit, error = name, part, found
            break
    reason = _cause(error)
    operator = _OPERATOR.search(str(reason))
    kind = f"{type(culprit).__module__}.{type(culprit).__qualname__}"
    problem = (
        f"operator {operator.group(1)} has no ONNX form" if operator else f"has no ONNX form: {first_line(reason)}"
    )
    advice = "write it with operators that ONNX knows, or give torch a symbolic function for it"
    return UserError(where or "network", f"{problem} (in {kind})", advice)


def _calls(module: nn.Module, example: Tensor) -> list[tuple[str, nn.Module, tuple[Tensor, ...]]]:
    """Submodules that take tensors only, with what each was given; the deepest first."""
    seen: list[tuple[str, nn.Module, tuple[Tensor, ...]]] = []

    def note(name: str) -> Callable[[nn.Module, tuple[object, ...]], None]:
        def hook(part: nn.Module, inputs: tuple[object, ...]) -> None:
            tensors = tuple(value for value in inputs if isinstance(value, Tensor))
            if tensors and len(tensors) == len(inputs):
                seen.append((name, part, tensors))

        return hook

    handles = [part.register_forward_pre_hook(note(name)) for name, part in module.named_modules() if name]
    try:
        module(example)
    finally:
        for handle in handles:
            handle.remove()
    return sorted(seen, key=lambda call: -call[0].count("."))


def _cause(error: BaseException) -> BaseException:
    """The error at the bottom: the exporters wrap it in advice to their developers."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
