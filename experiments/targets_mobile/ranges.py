"""What the rule for activation ranges costs in LiteRT's INT8: python experiments/targets_mobile/ranges.py"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from run import NETWORKS, source

from nas.deploy.options import DeployOptions
from nas.deploy.targets.executorch_process import ConverterProcess
from nas.deploy.targets.executorch_program import write_program
from nas.deploy.targets.litert_files import TfliteFiles

_CONVERT = "nas.deploy.targets.litert_convert"


def main() -> None:
    torch.set_num_threads(1)
    files = TfliteFiles(options=DeployOptions(), process=ConverterProcess(target="litert"))
    print("| network | ranges | agreement | error / range |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for net in NETWORKS:
            given = source(net, folder)
            test, calibration, program = folder / "test.npy", folder / "calibration.npy", folder / "program.pt2"
            np.save(test, given.samples.test)
            np.save(calibration, given.samples.calibration)
            write_program(given.module, given.input_shape, program)
            float_file = files.make(given, "float32", folder / "float.tflite").path
            for words, recipe in (("moving average", "static-average"), ("true extremes", "static"), ("pt2e", "")):
                path = folder / "int8.tflite"
                told = {"path": str(path), "calibration": str(calibration)}
                if recipe:
                    files.process.call(f"{_CONVERT}:quantise", float_file=str(float_file), recipe=recipe, **told)
                else:
                    files.process.call(f"{_CONVERT}:convert_calibrated", program=str(program), **told)
                logits, _ = files.logits(path, test)
                agreement = float((logits.argmax(1) == given.reference.argmax(1)).mean())
                error = float(np.abs(logits - given.reference).max() / np.ptp(given.reference))
                print(f"| {net} | {words} | {agreement:.3f} | {error:.1e} |")


if __name__ == "__main__":
    main()
