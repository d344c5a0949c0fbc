"""The pages of a bundle for people: what to ship, how to run it, how sure the figures are.

Responsible for Markdown that reads as plain text too. All figures come from the manifest, and whatever it holds is
text in these pages and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nas.deploy.bundle.text import comment, markdown
from nas.units import format_quantity

_LEVELS = {
    "executed": "ran in its own runtime on the machine that made it, every figure is from there",
    "simulated": "ran in the vendor's simulator: the answers are the device's, times are not",
    "structure-only": "was read back and its contents checked; nothing ran it",
    "script-only": "comes with a script that builds, checks and times it on the device; nothing of the target ran",
}


def readme(record: Mapping[str, Any]) -> str:
    """The page that a deployer reads first."""
    parts = [_head(record), _files(record), _missing(record), _check(), _use(record), _figures(record), _again(record)]
    return "\n".join(part for part in parts if part)


def parity_page(record: Mapping[str, Any]) -> str:
    """How far each file's answers are from those of the network in torch, runtime by runtime."""
    images, reference = record["images"], _reference(record)
    lines = [
        f"# Parity with {reference}",
        "",
        f"Each file was judged on up to {images['test']} images ({_source(images)}) that no training "
        f"{_whose(record)}saw, and its answers were held against those of {_held_against(record)}. `judged in` is what "
        "computed them: the target's own runtime where it ran, something else where nothing of the target runs on the "
        "machine that exported. `agreement` is the share of images with the same class, `error` the largest deviation "
        f"of a logit as a share of the range of the logits of {reference}.",
        "",
        "| model | target | precision | level | judged in | images | accuracy | agreement | error | to be shipped |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for model in record["models"]:
        for entry in model["files"]:
            judged = entry["judgement"] or {}
            cells = (
                model["digest"],
                entry["target"],
                entry["precision"],
                entry["level"],
                judged_in(entry) or "-",
                _whole(judged.get("num_samples")),
                _percent(judged.get("accuracy")),
                _percent(judged.get("agreement")),
                "-" if judged.get("relative_error") is None else f"{judged['relative_error']:.2g}",
                "yes" if entry["accepted"] else f"no: {entry['reason']}",
            )
            lines.append(_row(cells))
    lines += ["", *_levels(record), "", _missing(record)]
    return "\n".join(lines).rstrip() + "\n"


def judged_in(entry: Mapping[str, Any]) -> str:
    """What computed the answers that a file is judged by, with its version; "" where nothing did."""
    if entry["judgement"] is None:
        return ""
    return str(entry["figures"].get("judged_in") or f"{entry['runtime']} {entry['runtime_version']}".strip())


def _head(record: Mapping[str, Any]) -> str:
    origin = record["origin"]
    tool, data = f"`nas` {record['tool']['version']}", markdown(origin["data"].get("name", "?"))
    if "model" in origin:
        name = markdown(origin["model"]["name"])
        first = f"{_forms(len(record['models']))} of {name}, made by {tool} and judged on {data}. It was not searched "
        first += "for: there is no search space and no architecture of it."
        own = [
            f"- {model['digest']}: {markdown(model['choices'].get('step', '?'))}, "
            f"{markdown(model['choices'].get('what', '?'))}"
            for model in record["models"]
        ]
        told = ["", *own, ""]
    else:
        space = markdown(origin["space"].get("name", "?"))
        first = (
            f"{len(record['models'])} image classifiers, found by {tool} in the space {space} and trained on {data}."
        )
        told = []
    lines = [
        f"# {markdown(record['name'])}",
        "",
        first,
        *told,
        "`manifest.json` has every figure of this page and more; `manifest.schema.json` describes it.",
        "",
    ]
    return "\n".join(lines)


def _forms(count: int) -> str:
    return "One form" if count == 1 else f"{count} forms"


def _came_as_file(record: Mapping[str, Any]) -> bool:
    """Whether the models are forms of an ONNX file, which there is no network in torch of."""
    return (record["origin"].get("model") or {}).get("kind") == "onnx"


def _whose(record: Mapping[str, Any]) -> str:
    """What a model saw before it came here is not known."""
    return "here " if "model" in record["origin"] else ""


def _reference(record: Mapping[str, Any]) -> str:
    return "the float32 file" if _came_as_file(record) else "torch"


def _held_against(record: Mapping[str, Any]) -> str:
    if _came_as_file(record):
        return "the float32 file of the same form in onnxruntime, as the model came as an ONNX file"
    return "the trained network in torch"


def _files(record: Mapping[str, Any]) -> str:
    devices = _devices(record)
    heads = ["model", "target", "precision", "level", "accuracy", *(f"ms on {markdown(one)}" for one in devices)]
    heads += ["size", "activations", "file"]
    lines = ["## Files", "", "| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for model in record["models"]:
        for entry in model["files"]:
            judged = entry["judgement"] or {}
            peak = entry["figures"].get("peak_bytes")
            cells = [
                model["digest"],
                entry["target"],
                entry["precision"] + ("" if entry["accepted"] else " (do not ship)"),
                entry["level"],
                _percent(judged.get("accuracy")),
                *(_latency(entry, one) for one in devices),
                format_quantity(entry["bytes"], "bytes"),
                format_quantity(peak, "bytes") if isinstance(peak, int | float) else "-",
            ]
            lines.append(_row(cells)[:-1] + f"| `{comment(entry['path'])}` |")
    return "\n".join([*lines, "", *_levels(record), ""])


def _levels(record: Mapping[str, Any]) -> Iterator[str]:
    found = {entry["level"] for model in record["models"] for entry in model["files"]}
    return (f"- `{level}`: {text}" for level, text in _LEVELS.items() if level in found)


def _missing(record: Mapping[str, Any]) -> str:
    if not record["missing"]:
        return ""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for one in record["missing"]:
        groups.setdefault((one["target"], one["reason"]), []).append(one)
    lines = ["## Missing", "", "| target | precisions | models | why |", "|---|---|---|---|"]
    for (target, reason), group in groups.items():
        precisions, models = (", ".join(dict.fromkeys(one[key] for one in group)) for key in ("precision", "model"))
        lines.append(_row((target, precisions, models, reason)))
    return "\n".join([*lines, ""])


def _check() -> str:
    return """## Check it
```
pip install numpy onnxruntime
python verify.py
```
It compares every checksum, then runs each file whose runtime is installed on the golden inputs. It prints the
fingerprint of the bundle, the SHA-256 of `manifest.json`, which names the sum of every other file: compare it with what
you were told. The script comes with the bundle; where you do not trust that, use `nas verify <bundle>` of your own.
"""


def _use(record: Mapping[str, Any]) -> str:
    heads = ("model", "input", "channels", "mean", "std", "resizing of the training images", "classes")
    lines = [
        "## Use it",
        "Inputs are float32 in the order batch, channel, row, column; outputs are logits, the largest is the class.",
        "",
        "| " + " | ".join(heads) + " |",
        "|" + "---|" * len(heads),
    ]
    for model in record["models"]:
        entry = model["input"]
        shape = "1 x " + " x ".join(str(size) for size in entry["shape"][1:])
        mean, std = (", ".join(f"{value:.6g}" for value in entry[name]) for name in ("mean", "std"))
        lines.append(
            _row((model["digest"], shape, entry["channels"], mean, std, entry["resize"], len(model["labels"])))
        )
    model = max(record["models"], key=lambda one: len(one["loaders"]) + len(one["benchmarks"]))
    place = f"models/{model['digest']}/"
    lines += [
        "",
        f"A value is {markdown(model['input']['formula'])}. The input is named `{comment(model['input']['name'])}`, "
        f"the output `{comment(model['output']['name'])}`. Below `models/<model>`:",
        "- `labels.txt`: a line a class, in the order of the logits",
        "- `golden/`: inputs and the outputs to expect: `golden.npz`, and raw little-endian files that `golden.json` "
        "describes",
        "- `profile/`: shares of the time by operator, from the runtime's profiler on the machine that exported",
    ]
    lines += [
        f"- `{comment(one['path'].removeprefix(place))}`: {one['language']}; {comment(one['checked'])}"
        for one in (*model["loaders"], *model["benchmarks"])
    ]
    return "\n".join([*lines, ""])


def _figures(record: Mapping[str, Any]) -> str:
    images = record["images"]
    lines = [
        "## How sure the figures are",
        f"- accuracy and parity: {images['test']} images, {_source(images)}; `parity.md` and `parity.json`",
        f"- calibration of quantised files: {images['calibration']} images of the training split",
        "- latency: as measured by the timing protocol on the named device, with its state in `manifest.json`; `-`: "
        "not measured. `figures.latency_ms` there is a quick look while exporting, on a busy machine",
        "- activations: the most that is alive at once beside the weights, without scratch memory of operators",
    ]
    lines += [f"- {markdown(note)}" for note in record["notes"]]
    return "\n".join([*lines, ""])


def _again(record: Mapping[str, Any]) -> str:
    licences, commands = record["licences"], record["commands"]
    lines = [
        "## Licence",
        f"- weights: {markdown(licences['weights'] or 'not stated; ask who gave you this bundle')}",
        f"- training data: {markdown(licences['data'] or 'not stated; ask who gave you this bundle')}",
        f"- loaders, scripts and this page: {licences['code']}",
        f"- texts: {', '.join(f'`{comment(text)}`' for text in licences['texts'])}",
        "",
        "## Make it again",
        "```",
        *(comment(commands[name]) for name in ("search", "export") if commands.get(name)),
        "```",
    ]
    return "\n".join(lines) + "\n"


def _source(images: Mapping[str, Any]) -> str:
    whole = "of the test split"
    return (
        whole if images["source"] == "data" else "the golden images of the model folders only: the data was not there"
    )


def _devices(record: Mapping[str, Any]) -> list[str]:
    names = [name for model in record["models"] for entry in model["files"] for name in entry["latencies"]]
    return list(dict.fromkeys(names))


def _latency(entry: Mapping[str, Any], device: str) -> str:
    measured = (entry["latencies"].get(device) or {}).get("measured")
    if not measured:
        return "-"
    return f"{measured['latency_ms']:.3g}" + ("" if measured["settled"] else " (not settled)")


def _row(cells: Any) -> str:
    return "| " + " | ".join(markdown(cell) for cell in cells) + " |"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _whole(value: int | None) -> str:
    return "-" if value is None else str(value)
