"""The steps of a compression: quantised, narrow, sparse, trained with rounding, mixed under a budget.

Responsible for what each step makes of the network, and for leaving out a step that this network does not admit, with
one line that says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from nas.commands.compress_bench import Bench, Made, Maker, Variant
from nas.commands.compress_mixed import mixed_maker
from nas.deploy.export import export_onnx
from nas.deploy.files import torch_logits
from nas.deploy.options import PRECISIONS
from nas.deploy.precision.calibration import check_normalisation
from nas.deploy.precision.makers import make_file
from nas.deploy.qat_gain import describe_gain, write_rounded
from nas.deploy.quantise import host_activations
from nas.errors import UserError, one_line
from nas.train.compression.sparsity import Sparsity
from nas.train.compression.steps import Form, cut, thin, train_aware
from nas.train.fit import DivergenceError

_COMPARED = 256


def float_variants(bench: Bench) -> Iterator[Variant]:
    """The network as it is, and with fewer channels or weights; each with the files that calibration gives."""
    original = bench.original
    yield _calibrated(bench, "original", original.form, original.file, text="as it was given")
    if original.form is None:
        return
    for share in bench.settings.prune:
        yield from _tried(bench, f"pruned-{100 * share:g}", partial(_pruned, bench, share))
    for zeros in bench.settings.sparsity:
        yield from _tried(bench, _sparse_name(zeros), partial(_sparse, bench, zeros))


def mixed_variant(bench: Bench, parent: Variant) -> Iterator[Variant]:
    """The network with a precision for each operator, where there is a budget on size or latency to make it to."""
    if bench.limit("size") is None and bench.limit("latency") is None:
        return
    file = bench.scratch / f"{parent.name}.float32.onnx"
    parent.files["float32"](file)
    files = {"float32": _maker(bench, "float32", file), "mixed": mixed_maker(bench, file)}
    text = f"a precision for each operator of {parent.name}"
    name, shown = f"{_prefix(parent)}mixed", ("mixed",)
    yield Variant(
        name=name, form=parent.form, files=files, shown=shown, text=text, parent=parent.name, made_to_fit=True
    )


def trained_variant(bench: Bench, parent: Variant, calibrated: float | None) -> Iterator[Variant]:
    """The network after a training with rounding; its float32 file is the control, where there is one.

    Args:
        bench: what is shared.
        parent: what is trained on; a torch module.
        calibrated: accuracy of its calibrated INT8 file; None where there is none.
    """
    if parent.form is None or not bench.settings.compress.qat_epochs:
        return
    yield from _tried(bench, f"{_prefix(parent)}trained", partial(_trained, bench, parent, calibrated))


def _calibrated(bench: Bench, name: str, form: Form | None, file: Path, *, text: str, parent: str = "") -> Variant:
    wanted = bench.settings.precisions
    files: dict[str, Maker] = {
        precision: _maker(bench, precision, file) for precision in PRECISIONS if precision in wanted
    }
    return Variant(name=name, form=form, files=files, shown=tuple(files), text=text, parent=parent)


def _maker(bench: Bench, precision: str, file: Path) -> Maker:
    def make(path: Path) -> Made:
        samples, options = bench.samples, bench.settings.deploy
        images = samples.calibration[: options.calibration_images]
        if precision not in ("float32", "float16"):
            known = np.asarray(samples.test[:_COMPARED])
            check_normalisation(images, mean=samples.mean, std=samples.std, inputs=known)
        quantisation = make_file(precision, file, path, images, options)
        if precision == "int4" and "int4" not in (quantisation or {}).get("operators", {}):
            raise UserError("precisions", "int4 is for matrix products with constant weights, the network has none")
        return Made(quantisation=quantisation, precision=precision)

    return make


def _pruned(bench: Bench, share: float) -> Variant:
    assert bench.original.form is not None
    form = cut(bench.original.form.module, share, bench.setting, epochs=bench.settings.epochs)
    return _exported(bench, f"pruned-{100 * share:g}", form)


def _sparse(bench: Bench, zeros: Sparsity) -> Variant:
    assert bench.original.form is not None
    epochs = bench.settings.epochs
    thinned = thin(bench.original.form.module, None, bench.setting, sparsity=zeros, epochs=epochs)
    told = zeros if isinstance(zeros, str) else f"{zeros:.0%}"
    text = f"{told} zeros in its weights, trained on for {epochs} epochs"
    return _exported(bench, _sparse_name(zeros), Form.trained(thinned.module, thinned.fit, text))


def _exported(bench: Bench, name: str, form: Form) -> Variant:
    file = bench.scratch / f"{name}.onnx"
    export_onnx(form.module, bench.original.input_shape, file, exporter=bench.settings.deploy.exporter)
    return _calibrated(bench, name, form, file, text=f"{form.text}{_taught(bench)}", parent="original")


def _trained(bench: Bench, parent: Variant, calibrated: float | None) -> Variant:
    compress, options = bench.settings.compress, bench.settings.deploy
    assert parent.form is not None
    profile = options.activations or host_activations()
    aware = train_aware(parent.form.module, bench.setting, profile=profile, epochs=compress.qat_epochs)
    epochs = f"{compress.qat_epochs} epoch{'s' if compress.qat_epochs != 1 else ''}"
    text = f"trained with rounding for {epochs}{_taught(bench)}"
    module, fit = (parent.form.module, aware.fit) if aware.control is None else (aware.control, aware.control_fit)
    control = Form.trained(module, fit or aware.fit, text)
    file = bench.scratch / f"{parent.name}-control.onnx"
    export_onnx(control.module, bench.original.input_shape, file, exporter=options.exporter)

    def make(path: Path) -> Made:
        reference = torch_logits(control.module, bench.samples.test)
        rounded = write_rounded(path, aware, bench.samples, reference, options, calibrated=calibrated)
        told = describe_gain(rounded.quantisation["qat"])
        return Made(quantisation=rounded.quantisation, precision="int8", reason=rounded.reason, text=told)

    files = {"float32": _maker(bench, "float32", file), "int8": make}
    shown = tuple(files) if aware.control is not None else ("int8",)
    name = f"{_prefix(parent)}trained"
    return Variant(
        name=name,
        form=control,
        files=files,
        shown=shown,
        text=text,
        parent=parent.name,
        made_to_fit=True,
        rounded=Form(module=aware.module),
    )


def _tried(bench: Bench, name: str, make: Callable[[], Variant]) -> Iterator[Variant]:
    bench.display.progress("steps", 0, 1, text=name)
    try:
        variant = make()
    except (UserError, DivergenceError) as error:
        told = str(error) if isinstance(error, UserError) else one_line(error)
        bench.display.note(f"{name} is left out: {told}")
        return
    yield variant


def _prefix(parent: Variant) -> str:
    return f"{parent.name}-" if parent.parent else ""


def _sparse_name(zeros: Sparsity) -> str:
    return f"sparse-{zeros.replace(':', 'of')}" if isinstance(zeros, str) else f"sparse-{100 * zeros:g}"


def _taught(bench: Bench) -> str:
    return ", taught by the original" if bench.settings.compress.distil == "largest" else ""
