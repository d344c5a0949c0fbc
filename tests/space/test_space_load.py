import random
import re

import numpy as np
import pytest

from nas.errors import UserError
from nas.locate import resource_folder
from nas.space import SearchSpace, load_space
from nas.space.moves import is_canonical, sample

FOLDER = resource_folder("search_spaces")
SHIPPED = {
    # resolution, stem, activation; three stages of a width and one to three blocks of 2 * 4 * 2; the head
    "mobilenet-tiny": 3 * 3 * 2 * (4 * (16 + 16**2 + 16**3)) ** 3 * (1 + 3),
    # resolution, stem, head; stage1 of two widths and up to two blocks, stages 2 and 3 of three widths and up to three;
    # width and precision of the file
    "mobilenet-tiny-joint": 3 * 2 * 4 * (2 * (16 + 16**2)) * (3 * (16 + 16**2 + 16**3)) ** 2 * 3 * 2,
    "nasbench-macro": 3**8,
    "nasbench201": 5**6,
    # stem's width and kernel; three stages of a width and one to three blocks, basic (2) or bottleneck (2 * 2)
    "resnet-tiny": 3 * 2 * (4 * (6 + 6**2 + 6**3)) ** 3,
}
README = (FOLDER / "README.md").read_text(encoding="utf-8")


def written(folder, text, name="mine.yaml"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return path


def complaint(path):
    with pytest.raises(UserError) as caught:
        load_space(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_space_is_named_like_its_file_and_has_the_size_that_is_stated(name):
    space = load_space(FOLDER / f"{name}.yaml")
    assert space.name == name
    assert space.description
    assert space.size == SHIPPED[name]
    rows = sample(space, 50, np.random.default_rng(0))
    assert is_canonical(space, rows).all()
    for row in rows:
        stages = space.network(row).stages
        assert stages == tuple(stage for slot in space.slots if (stage := slot.resolve(row)) is not None)
        assert stages[-1].op == "classifier"


def test_only_the_stated_spaces_are_shipped():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(SHIPPED)


def test_mobilenet_tiny_has_one_activation_for_the_whole_network():
    space = load_space(FOLDER / "mobilenet-tiny.yaml")
    for row in sample(space, 100, np.random.default_rng(1)):
        stages = space.network(row).stages
        assert len({stage.parameters["activation"] for stage in stages if "activation" in stage.parameters}) == 1


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", README, re.DOTALL))
def test_the_examples_of_the_readme_are_spaces(block, tmp_path):
    space = load_space(written(tmp_path, block))
    assert space.name == "mine"
    for row in sample(space, 20, np.random.default_rng(0)):
        assert space.network(row).stages


def test_the_names_that_the_readme_gives_are_the_names(tmp_path):
    blocks = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    names = [choice.name for choice in load_space(written(tmp_path, blocks[1])).choices]
    assert names == ["resolution", "0.op", "0.kernel", "middle", "middle.inverted_residual.expansion", "2"]


def test_the_python_example_of_the_readme_runs():
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    scope = {}
    exec(block, scope)
    assert isinstance(scope["space"], SearchSpace)
    assert scope["space"].size == 2 * 2 * (2 + 4)


def test_an_error_in_the_syntax_names_the_line(tmp_path):
    path = written(tmp_path, "name: a\nnetwork:\n  - {op: conv\n  - x\n")
    assert re.match(
        re.escape(str(path)) + r": line \d, column \d+: is not YAML: .* begins in line 3\)", complaint(path)
    )


def test_a_key_that_stands_twice_names_the_line(tmp_path):
    path = written(tmp_path, "network:\n  - op: conv\n    kernel: 3\n    kernel: 5\n")
    assert "line 4, column 5: is not YAML: the key 'kernel' twice in one mapping" in complaint(path)


def test_a_broken_rule_names_the_file_and_the_key(tmp_path):
    path = written(tmp_path, "network:\n  - {op: conv, kernel: {choose: []}}\n")
    assert complaint(path).startswith(f"{path}: network[0].kernel.choose: must have 1 to 1000 options, got 0")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must be a mapping with network"),
        (b"\xff\xfe\x00", "must be"),
        (b"\x00", "is not YAML"),
        (b"network: [conv, 2020-99-99]", "line 1, column 17: is not YAML: month must be in 1..12"),
        (b"network: [{op: conv, kernel: " + b"9" * 5000 + b"}]", "line 1, column 30: is not YAML: Exceeds the limit"),
        (b"network: " + b"[" * 1_500, "must not be nested that deep"),
        (b"a: &a [x, x]\nb: &b [*a, *a]\nnetwork: [!!python/object:os.system {}]", "is not YAML"),
        (b"network: &a [*a]", "must be nested at most 40 deep"),
        (b"? {a: 1}\n: 3", "is not YAML"),
        (b"network: [conv]\n---\nnetwork: [conv]", "is not YAML"),
        (b"x" * 300_000, "must be at most 250 kB, got 300 kB"),
    ],
)
def test_a_file_that_is_no_space_is_told_in_one_line(content, message, tmp_path):
    path = written(tmp_path, content)
    assert message in complaint(path)


def test_a_file_that_is_not_there_is_told(tmp_path):
    assert "must be a readable file, got 'No such file or directory'" in complaint(tmp_path / "none.yaml")
    assert "must be a readable file" in complaint(tmp_path)


def test_aliases_are_copies_with_choices_of_their_own(tmp_path):
    text = "network:\n  - &a {op: conv, kernel: {choose: [3, 5]}}\n  - *a\n  - {<<: *a, stride: 2}\n"
    space = load_space(written(tmp_path, text))
    assert [choice.name for choice in space.choices] == ["0.kernel", "1.kernel", "2.kernel"]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_damaged_file_gives_a_space_or_a_user_error(name, tmp_path):
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    rng = random.Random(name)
    for _ in range(40):
        at = rng.randrange(len(text))
        damaged = text[:at] + rng.choice(["", "{", "]", ":", "- ", "&a ", "*a", "\n", "\t", "'", "0x", "~", "!", "%"])
        damaged += text[at + rng.choice([0, 1, 5]) :]
        error = outcome(written(tmp_path, damaged))
        assert "\n" not in error
        assert error == "" or error.startswith(str(tmp_path))


def outcome(path):
    try:
        load_space(path)
    except UserError as error:
        return str(error)
    return ""
