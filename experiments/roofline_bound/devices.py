"""Devices with published latencies and known peak rates: what the rates of `nas.device.roofline` are calibrated on.

Peaks of the HELP devices are data-sheet figures. HELP does not say how many threads its processors used; one core is
assumed, which is what their latencies look like (all ten cores would be at 2 % of their peak).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Published:
    """A device of a table.

    Attributes:
        column: of the latency table, or the run of MLPerf Tiny.
        board: the hardware; devices of one board are left out together.
        kind, runtime: as in device cards.
        operations: peak operations a second, in the precision of the table.
        bandwidth: bytes a second; None where nothing is streamed from outside the chip.
        batch: samples an inference.
    """

    column: str
    board: str
    kind: str
    runtime: str
    operations: float
    bandwidth: float | None
    batch: int = 1


def _gpu(board: str, tera: float, giga: float, batches: tuple[int, ...]) -> list[Published]:
    return [
        Published(column=f"{board}_{batch}", board=board, kind="gpu", runtime="pytorch", operations=tera * 1e12,
                  bandwidth=giga * 1e9, batch=batch)
        for batch in batches
    ]  # fmt: skip


def _core(column: str, giga_hertz: float, per_cycle: int, giga: float) -> Published:
    return Published(column=column, board=column, kind="cpu", runtime="pytorch",
                     operations=giga_hertz * 1e9 * per_cycle, bandwidth=giga * 1e9)  # fmt: skip


HELP: tuple[Published, ...] = (
    *_gpu("1080ti", 11.3, 484, (1, 32, 256)),
    *_gpu("2080ti", 13.4, 616, (1, 32, 256)),
    *_gpu("titan_rtx", 16.3, 672, (1, 32)),
    *_gpu("titanx", 11.0, 480, (1, 32, 256)),
    *_gpu("titanxp", 12.1, 547, (1, 32, 256)),
    _core("silver_4114", 2.2, 32, 115.2),  # one AVX-512 unit, six channels of DDR4-2400
    _core("silver_4210r", 2.4, 32, 115.2),
    _core("pixel3", 2.5, 16, 29.8),  # Snapdragon 845, Cortex-A75: two 128-bit units
    _core("essential_ph_1", 2.45, 8, 29.8),  # Snapdragon 835, Cortex-A73: two 64-bit units
    _core("samsung_s7", 2.3, 8, 28.7),  # Exynos 8890, M1
    _core("samsung_a50", 2.3, 8, 13.9),  # Exynos 9610, Cortex-A73
)


@dataclass(frozen=True, kw_only=True)
class Tiny:
    """A closed-division result of MLPerf Tiny v1.0 (github.com/mlcommons/tiny_results_v1.0), INT8.

    Attributes:
        run: submitter and software.
        board: the hardware.
        megahertz: of a Cortex-M with the DSP extension: two multiply-accumulates a cycle.
        per_second: inferences a second on image classification, keyword spotting, visual wake words.
        energy_uj: of an inference on the same, where it was submitted.
    """

    run: str
    board: str
    megahertz: float
    per_second: tuple[float, float, float]
    energy_uj: tuple[float, float, float] | None = None


TINY: tuple[Tiny, ...] = (
    Tiny(run="ST X-CUBE-AI", board="STM32L4R5", megahertz=120, per_second=(4.407, 13.323, 4.339),
         energy_uj=(10681.6, 3371.7, 10066.6)),
    Tiny(run="microTVM CMSIS-NN", board="STM32L4R5", megahertz=120, per_second=(2.567, 10.019, 3.320),
         energy_uj=(20236.3, 5230.3, 15531.4)),
    Tiny(run="microTVM", board="STM32L4R5", megahertz=120, per_second=(2.569, 6.943, 2.971),
         energy_uj=(21342.3, 7950.5, 17131.6)),
    Tiny(run="Plumerai", board="STM32L4R5", megahertz=120, per_second=(5.775, 13.955, 4.795)),
    Tiny(run="ST X-CUBE-AI", board="STM32U575", megahertz=160, per_second=(7.158, 22.608, 7.496),
         energy_uj=(3642.0, 1138.5, 3364.5)),
    Tiny(run="Plumerai", board="STM32U585", megahertz=160, per_second=(9.341, 28.219, 9.342)),
    Tiny(run="ST X-CUBE-AI", board="STM32H7A3", megahertz=280, per_second=(18.401, 59.667, 19.722),
         energy_uj=(8707.3, 2721.8, 7978.5)),
    Tiny(run="Plumerai", board="STM32F746", megahertz=216, per_second=(15.440, 52.288, 17.535)),
    Tiny(run="Plumerai", board="PSoC 62", megahertz=150, per_second=(5.178, 16.287, 5.196)),
    Tiny(run="microTVM CMSIS-NN", board="nRF5340", megahertz=128, per_second=(3.163, 13.143, 4.310)),
)  # fmt: skip

# github.com/espressif/esp-tflite-micro, README, with ESP-NN: ms of the person detection example (MobileNet V1 of width
# 0.25 on 1x96x96) from internal memory. One board a row: MHz, multiply-accumulates a cycle, ms.
# The ESP32-S3 multiplies 16 pairs of bytes at once; the others have no vectors.
ESPRESSIF: dict[str, tuple[float, int, float]] = {
    "ESP32-S3": (240, 16, 54.0),
    "ESP32": (240, 1, 380.0),
    "ESP32-C3": (160, 1, 426.0),
}

# coral.ai/docs/edgetpu/benchmarks, table 1: ms an inference with the USB accelerator and on the development board.
# Networks whose weights fit the chip's 8 MB, so that none are streamed.
EDGE_TPU_MS: dict[str, tuple[float, float]] = {
    "mobilenet_v1": (2.4, 2.4),
    "mobilenet_v2": (2.6, 2.6),
    "squeezenet": (2.1, 2.0),
}
EDGE_TPU_OPERATIONS = 4e12
