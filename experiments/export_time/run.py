"""How long the export of a front takes, and where the time of torch's two ONNX exporters goes.

    python experiments/export_time/run.py front         # 8 model folders for CIFAR-10 (NAS_DATA) or digits
    python experiments/export_time/run.py export        # `nas export` of it, in several ways, whole commands
    python experiments/export_time/run.py anew          # its float32 and INT8 files made anew: exporters x processes
    python experiments/export_time/run.py exporter      # the dynamo exporter in a fresh process, phase by phase

Everything is written below ``--folder`` (default: export_time.out here). Results are printed as Markdown.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve()
NUM_MODELS, LIMIT, TEST = 8, 12000, 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("front", "export", "anew", "exporter"))
    parser.add_argument("--exporter", nargs="+", default=["torchscript", "dynamo"], help="of the part anew")
    parser.add_argument("--folder", type=Path, default=Path("export_time.out"))
    given = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f}")
    folder = given.folder.resolve()
    if given.part == "anew":
        anew(folder, given.exporter)
    else:
        {"front": front, "export": export, "exporter": exporter}[given.part](folder)
    print(f"load average {os.getloadavg()[0]:.1f}")


def data_config() -> dict[str, object]:
    """CIFAR-10 where it is, else digits."""
    place = Path(os.environ.get("NAS_DATA", HERE.parents[3] / "shared" / "data")) / "cifar10"
    if not place.is_dir():
        return {"_target_": "nas.train.data.digits.Digits"}
    return {"_target_": "nas.train.data.parquet.Parquet", "path": str(place), "limit": LIMIT}


def front(folder: Path) -> None:
    """A run folder with eight random networks of mobilenet-tiny, untrained: weights do not change how long it takes."""
    import numpy as np
    import torch

    from nas.cli.instantiate import instantiate
    from nas.commands.locate_space import find_space
    from nas.deploy.model_folder import export_model
    from nas.deploy.options import DeployOptions
    from nas.deploy.records import TrainedNetwork, Training
    from nas.deploy.samples import samples_of
    from nas.model.build import build
    from nas.model.costs import network_costs
    from nas.space.moves import sample
    from nas.train.task import image_classification

    torch.set_num_threads(1)
    config = data_config()
    task = image_classification(instantiate(config, where="data").load())  # type: ignore[attr-defined]
    space = find_space("mobilenet-tiny")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "run" / "models").mkdir(parents=True)
    (folder / "run" / "manifest.json").write_text(json.dumps({"format": 1, "config": {"data": config}}))
    for row in sample(space, NUM_MODELS, np.random.default_rng(0)):
        network = space.network(row)
        torch.manual_seed(0)
        module = build(network, input_shape=task.input_shape, num_classes=task.num_classes)
        costs = network_costs(network, input_shape=task.input_shape, num_classes=task.num_classes)
        trained = TrainedNetwork(
            module=module, network=network, architecture=space.architecture(row), space=space.name,
            space_digest=space.digest, macs=costs.macs, parameters=costs.parameters,
        )  # fmt: skip
        samples = samples_of(task, network, num_calibration=256)
        training = Training(epochs=0, seed=0, seconds=0)
        made = export_model(folder / "run" / "models", trained, samples, training, DeployOptions(revert=0))
        print(
            made.digest,
            f"{costs.macs / 1e6:.2f} MMAC",
            f"{costs.parameters} parameters",
            [file.precision for file in made.files],
        )


def export(folder: Path) -> None:
    """Whole commands, from the prompt to the prompt; CPU seconds are those of all their processes."""
    print("| `nas export` with | seconds | CPU seconds | load average | files | missing |")
    print("|---|---|---|---|---|---|")
    for name, fields in {
        "defaults (2 processes)": [],
        "profile=false": ["profile=false"],
        "workers=1": ["workers=1"],
        "workers=0 (no processes)": ["workers=0"],
        "golden_only=true": ["golden_only=true"],
    }.items():
        arguments = [f"run={folder / 'run'}", f"out={folder / 'bundle'}", "keep_rejected=true", "--json", *fields]
        started, before = time.monotonic(), cpu_seconds()
        done = subprocess.run(
            [sys.executable, "-m", "nas.cli.main", "export", *arguments], capture_output=True, text=True, check=True
        )
        seconds = time.monotonic() - started
        result = next(json.loads(line) for line in done.stdout.splitlines() if '"event": "result"' in line)
        used, load = cpu_seconds() - before, os.getloadavg()[0]
        counts = f"{len(result['files'])} | {len(result['missing'])}"
        print(f"| {name} | {seconds:.1f} | {used:.1f} | {load:.1f} | {counts} |", flush=True)


def cpu_seconds() -> float:
    """Of all processes that were started here and have ended, and their own."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def make(model: Path, images: Path, exporter: str) -> float:
    """Seconds to make the float32 and INT8 files of a model anew, judged on all images; in any process."""
    started = time.monotonic()
    import torch

    from nas.deploy.bundle.images import read_images
    from nas.deploy.export import export_onnx
    from nas.deploy.files import torch_logits
    from nas.deploy.judge import judge_file
    from nas.deploy.load import load_model
    from nas.deploy.quantise import host_activations, quantise

    torch.set_num_threads(1)
    samples = read_images(images)
    module = load_model(model).module
    shape = tuple(samples.test.shape[1:])
    with tempfile.TemporaryDirectory() as scratch:
        float32, int8 = Path(scratch) / "a.onnx", Path(scratch) / "b.onnx"
        export_onnx(module, shape, float32, exporter=exporter)  # type: ignore[arg-type]
        quantise(float32, int8, samples.calibration, activations=host_activations())
        reference = torch_logits(module, samples.test)
        for file in (float32, int8):
            judge_file(file, samples.test, samples.test_labels, reference)
    return time.monotonic() - started


def anew(folder: Path, exporters: list[str]) -> None:
    """Files made anew by either exporter: a process a model, one process for all, two processes for all."""
    from nas.cli.instantiate import instantiate
    from nas.deploy.architecture_file import read_architecture
    from nas.deploy.bundle.images import write_images
    from nas.deploy.samples import samples_of
    from nas.train.task import image_classification

    task = image_classification(instantiate(data_config(), where="data").load())  # type: ignore[attr-defined]
    models = sorted((folder / "run" / "models").iterdir())
    images = {}
    for model in models:
        images[model] = folder / "images" / model.name
        shutil.rmtree(images[model], ignore_errors=True)
        network = read_architecture(model / "architecture.yaml").network
        write_images(samples_of(task, network, num_calibration=256), images[model], num_test=TEST)
    print("| exporter | processes | seconds for 8 models | CPU seconds | first model of a process | later, median |")
    print("|---|---|---|---|---|---|")
    for name in exporters:
        for processes in (0, 1, 2):
            started, before = time.monotonic(), cpu_seconds()
            if processes:
                times = in_pool(models, images, name, processes)
            else:
                times = [in_pool([model], images, name, 1)[0] for model in models]
            seconds = time.monotonic() - started
            first, later = times[: processes or NUM_MODELS], sorted(times[processes:]) if processes else []
            middle = f"{later[len(later) // 2]:.1f}" if later else "-"
            how = str(processes) if processes else "a fresh one each"
            figures = f"{seconds:.1f} | {cpu_seconds() - before:.1f} | {sum(first) / len(first):.1f} | {middle}"
            print(f"| {name} | {how} | {figures} |", flush=True)


def in_pool(models: list[Path], images: dict[Path, Path], exporter: str, processes: int) -> list[float]:
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(make, models, [images[model] for model in models], [exporter] * len(models)))


def exporter(folder: Path) -> None:
    """The first and the second export of one fresh process, phase by phase."""
    script = f"""
import time, warnings, logging
warnings.simplefilter("ignore"); logging.disable(logging.ERROR)
phases = []
def phase(name, started):
    phases.append((name, time.monotonic() - started))
t = time.monotonic(); import torch; phase("import torch", t)
torch.set_num_threads(1)
from pathlib import Path
t = time.monotonic()
from nas.deploy.load import load_model
from nas.deploy.export import export_onnx
phase("import nas.deploy", t)
modules = [load_model(path) for path in sorted(Path({str(folder / "run" / "models")!r}).iterdir())[:2]]
t = time.monotonic(); import onnxscript; phase("import onnxscript", t)
t = time.monotonic()
from torch.onnx._internal.exporter import _registration
_registration.ONNXRegistry.from_torchlib(opset_version=20); phase("torchlib's registry of operators", t)
for k, model in enumerate(modules):
    shape = tuple(model.manifest["input"]["shape"][1:])
    x = torch.zeros(2, *shape)
    batch = ({{0: torch.export.Dim("batch")}},)
    t = time.monotonic(); program = torch.export.export(model.module, (x,), dynamic_shapes=batch, strict=False)
    phase(f"model {{k + 1}}: torch.export", t)
    t = time.monotonic(); program.run_decompositions({{}}); phase(f"model {{k + 1}}: decompositions", t)
    for exporter in ("dynamo", "torchscript"):
        t = time.monotonic(); export_onnx(model.module, shape, Path({str(folder / "x.onnx")!r}), exporter=exporter)
        phase(f"model {{k + 1}}: whole export, {{exporter}}", t)
for name, seconds in phases:
    print(f"| {{name}} | {{seconds:.2f}} |")
"""
    print("| phase | seconds |\n|---|---|", flush=True)
    subprocess.run([sys.executable, "-c", script], check=True, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
