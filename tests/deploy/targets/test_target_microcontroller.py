"""Microcontrollers: C files that a compiler takes, and an array that is the file."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.deploy.targets.fallbacks import by_table
from nas.deploy.targets.litert_files import LITERT
from nas.deploy.targets.litert_flatbuffer import Contents
from nas.deploy.targets.microcontroller import TABLE, Microcontroller
from nas.deploy.targets.microcontroller_code import (
    SUPPORTED,
    Example,
    Interface,
    _method,
    _text,
    arena_bytes,
    check_operators,
    compiled_bytes,
    write_code,
)
from nas.deploy.targets.target import Source
from nas.errors import UserError

needs_litert = pytest.mark.skipif(bool(LITERT.missing()), reason=LITERT.missing())
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler is installed here")
CONTENTS = Contents(
    operators={"CONV_2D": 2, "FULLY_CONNECTED": 1},
    weights={"INT8": 99},
    arena_bytes=5000,
    num_tensors=9,
    num_channels=7,
)
INTERFACE = Interface(shape=(1, 2, 3), input_scale=0.0125, input_zero_point=-3, output_scale=1.0, output_zero_point=4)
LABELS = ('a "quoted" one', "naïve ❄7", "c\\d", "what??/")


def written(folder: Path, data: bytes) -> tuple[Path, ...]:
    file = folder / "model.int8.tflite"
    file.write_bytes(data)
    return write_code(
        folder,
        file,
        CONTENTS,
        interface=INTERFACE,
        labels=LABELS,
        mean=(0.5,),
        std=(2.0,),
        example=Example(image=np.arange(6, dtype=np.int8), logits=np.array([1, -2, 3, -128], dtype=np.int8)),
    )


@needs_compiler
def test_the_compiled_array_is_the_file_byte_by_byte(tmp_path: Path) -> None:
    data = bytes(np.random.default_rng(0).integers(0, 256, 1003, dtype=np.uint8))
    written(tmp_path, data)
    assert compiled_bytes(tmp_path) == (data, "")


@needs_compiler
def test_a_spoilt_array_is_seen(tmp_path: Path) -> None:
    written(tmp_path, b"0123456789")
    path = tmp_path / "nas_model_data.c"
    path.write_text(path.read_text().replace("0x33", "0x34"))
    assert compiled_bytes(tmp_path)[0] == b"0124456789"
    path.write_text(path.read_text().replace("0x34", "0x"))
    assert "the C compiler refuses it" in compiled_bytes(tmp_path)[1]


@needs_compiler
def test_the_header_rounds_pixels_and_names_labels_as_python_does(tmp_path: Path) -> None:
    written(tmp_path, b"01234567")
    program = tmp_path / "probe.c"
    program.write_text(
        '#include <stdio.h>\n#include "nas_model.h"\nint main(void) {\n'
        '  for (int p = 0; p < 256; ++p) printf("%d ", nas_model_pixel((uint8_t)p, 0));\n'
        '  printf("\\n%g\\n", nas_model_logit(6));\n'
        '  for (int k = 0; k < NAS_MODEL_CLASSES; ++k) printf("%s\\n", nas_model_labels[k]);\n  return 0;\n}\n'
    )
    command = [
        "cc",
        "-std=c11",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-trigraphs",
        str(program),
        "-o",
        str(tmp_path / "probe"),
    ]
    subprocess.run(command, check=True, cwd=tmp_path, capture_output=True)
    lines = subprocess.run([str(tmp_path / "probe")], check=True, capture_output=True).stdout.decode().splitlines()
    values = (np.arange(256) / 255 - 0.5) / 2.0 / INTERFACE.input_scale
    wanted = np.clip(np.round(values) + INTERFACE.input_zero_point, -128, 127)
    assert np.abs(np.array(lines[0].split(), dtype=int) - wanted).max() <= 1  # halves are rounded to other sides
    assert (np.array(lines[0].split(), dtype=int) == wanted).mean() > 0.97
    assert lines[1] == "2"
    assert tuple(lines[2:]) == LABELS


@needs_compiler
def test_the_example_is_c_that_a_compiler_takes_without_a_warning(tmp_path: Path) -> None:
    written(tmp_path, b"01234567")
    command = [
        "cc",
        "-std=c11",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-c",
        str(tmp_path / "main.c"),
        "-o",
        str(tmp_path / "m.o"),
    ]
    subprocess.run(command, check=True, capture_output=True)


@given(st.text(min_size=1))
def test_any_label_is_one_literal_of_printable_ascii(label: str) -> None:
    try:
        label.encode()
    except UnicodeEncodeError:  # lone surrogates are no text
        return
    literal = _text(label)
    assert re.fullmatch(r'"(?:[^"\\\n]|\\.)*"', literal)
    assert literal.isascii()
    assert literal.isprintable()


def test_every_place_of_a_template_is_filled_and_operators_are_registered(tmp_path: Path) -> None:
    for path in written(tmp_path, b"01234567"):
        assert not re.search(r"@[A-Z_]+@", path.read_text()), path.name
    code = (tmp_path / "nas_model.cc").read_text()
    assert "resolver.AddConv2D()" in code
    assert "resolver.AddFullyConnected()" in code
    assert "MicroMutableOpResolver<2>" in code


@pytest.mark.parametrize(
    ("operator", "method"),
    [
        ("DEPTHWISE_CONV_2D", "AddDepthwiseConv2D"),
        ("AVERAGE_POOL_2D", "AddAveragePool2D"),
        ("HARD_SWISH", "AddHardSwish"),
        ("BATCH_MATMUL", "AddBatchMatMul"),
        ("SELECT_V2", "AddSelectV2"),
        ("RELU6", "AddRelu6"),
        ("ADD_N", "AddAddN"),
    ],
)
def test_operators_are_spelt_as_the_resolver_spells_them(operator: str, method: str) -> None:
    assert operator in SUPPORTED
    assert _method(operator) == method


def test_the_arena_holds_the_plan_and_what_the_interpreter_keeps() -> None:
    assert arena_bytes(CONTENTS) > CONTENTS.arena_bytes
    assert arena_bytes(CONTENTS) % 1024 == 0
    more = dataclasses.replace(CONTENTS, num_channels=CONTENTS.num_channels + 1000)
    assert arena_bytes(more) >= arena_bytes(CONTENTS) + 7 * 1024


def test_an_operator_that_the_runtime_lacks_is_named() -> None:
    with pytest.raises(UserError, match="operators that TensorFlow Lite Micro lacks: GELU"):
        check_operators(dataclasses.replace(CONTENTS, operators={"GELU": 1, "CONV_2D": 3}))


@needs_litert
def test_a_network_becomes_c_files_whose_array_is_its_file(source: Source, tmp_path: Path) -> None:
    target = Microcontroller()
    artifact = target.export(source, tmp_path, "int8")
    found = target.verify(artifact, source)
    assert found.accepted, found.reason
    assert found.level == "script-only"
    assert found.judgement is not None
    assert found.judgement.accuracy > 0.85
    assert [path.name for path in artifact.extras] == [
        "nas_model_data.h",
        "nas_model_data.c",
        "nas_model.h",
        "nas_model.cc",
        "main.c",
    ]
    if shutil.which("cc"):
        assert found.figures["compiled"] == "the array is the file, byte by byte"
        broken = artifact.extras[1].read_text()
        place = broken.index("0x", broken.index("{"))
        artifact.extras[1].write_text(
            broken[:place] + ("0xff" if broken[place : place + 4] != "0xff" else "0x00") + broken[place + 4 :]
        )
        assert target.verify(artifact, source).reason == "the compiled array is not the .tflite file"


def test_operators_that_controllers_lack_are_told_before_export(source: Source) -> None:
    assert by_table(source.files["float32"], TABLE) == ()
    assert {"Erf", "Gelu"}.isdisjoint(TABLE.accelerated)
    assert TABLE.unknown == "refused"
