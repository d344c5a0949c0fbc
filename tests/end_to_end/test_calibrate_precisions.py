"""`nas calibrate` for files of few bits, whose kernels are others than those of float32 files."""

from __future__ import annotations

from nas_command import SPACE, Here


def test_every_precision_of_a_file_can_be_calibrated(here: Here) -> None:
    (here.folder / "small.yaml").write_text(SPACE)
    precisions = ("int8-dynamic", "int4")
    outcome = here.nas(
        "calibrate",
        "space=small.yaml",
        "data.limit=300",
        "samples=12",
        "blocks=3",
        f"precisions=[{','.join(precisions)}]",
    )
    assert (outcome.code, outcome.err) == (0, "")
    folder = here.folder / "latency_models" / "this-machine"
    for precision in precisions:
        assert (folder / f"small-1x8x8-10-{precision}.npz").is_file()
        assert f"advice   {precision}: " in outcome.out
