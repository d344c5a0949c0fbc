"""Learning from a teacher: what it adds to the loss, and that it changes nothing else of a training."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from nas.errors import UserError
from nas.problem.evaluation import Fidelity
from nas.train.augmentation import training_images
from nas.train.compression.distillation import Distillation, DistilOptions, Pupil, Signals, soft_loss
from nas.train.compression.feature_maps import last_maps
from nas.train.compression.lessons import lessons_of
from nas.train.compression.teachers import TorchTeacher, import_teacher
from nas.train.fit import fit
from nas.train.judge import logits
from nas.train.recipe import Recipe

PLAIN = Recipe(shift=0.0, ema_decay=0.0, warmup_epochs=0)
BRIEF = Fidelity(epochs=2)


def taught(teacher: nn.Module, **options: float) -> Distillation:
    return Distillation(teacher=TorchTeacher(teacher), options=DistilOptions(**options))


def test_the_soft_loss_is_the_divergence_of_softened_scores():
    scores, teacher = torch.randn(5, 3), torch.randn(5, 3)
    p, q = (torch.softmax(value / 2, dim=1) for value in (teacher, scores))
    expected = 4 * (p * (p / q).log()).sum(dim=1).mean()
    torch.testing.assert_close(soft_loss(scores, teacher, 2.0), expected)
    assert float(soft_loss(scores, scores, 3.0)) == pytest.approx(0, abs=1e-6)


def test_a_pupil_of_a_teacher_that_counts_for_nothing_learns_as_without(few_digits, small_net):
    alone, pupil = small_net(), small_net()
    fit(alone, few_digits, Recipe(), fidelity=BRIEF, seed=0)
    fit(pupil, few_digits, Recipe(), fidelity=BRIEF, seed=0, teacher=taught(small_net(3), weight=0.0))
    assert all(torch.equal(a, b) for a, b in zip(alone.state_dict().values(), pupil.state_dict().values(), strict=True))


def test_a_pupil_comes_to_say_what_its_teacher_says_even_where_that_is_wrong(digits, small_net):
    class Contrary(nn.Module):
        """Gives the class after the right one."""

        def __init__(self, own: nn.Module) -> None:
            super().__init__()
            self.own = own

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.roll(self.own(x), 1, dims=1)

    own = small_net()
    fit(own, digits, Recipe(), fidelity=Fidelity(epochs=4), seed=0)
    pupil = small_net(7)
    teacher = taught(Contrary(own), weight=1.0)
    fit(pupil, digits, Recipe(), fidelity=Fidelity(epochs=4), seed=0, teacher=teacher)
    said, wanted = (logits(module, digits, "test").argmax(dim=1) for module in (pupil, Contrary(own)))
    assert (said == wanted).float().mean() > 0.8


def test_scores_of_images_that_are_never_changed_are_asked_for_once(few_digits, small_net):
    asked = []

    class Counting:
        digest = "counting"

        def map_shapes(self, images):
            return {}

        def __call__(self, images, maps=()):
            asked.append(len(images))
            return Signals(logits=images.flatten(1)[:, :10])

    distillation = Distillation(teacher=Counting(), options=DistilOptions())
    fit(small_net(), few_digits, PLAIN, fidelity=BRIEF, seed=0, teacher=distillation)
    assert sum(asked) == len(few_digits.labels("train"))
    asked.clear()
    fit(small_net(), few_digits, Recipe(), fidelity=BRIEF, seed=0, teacher=distillation)
    assert sum(asked) == 2 * len(few_digits.labels("train"))


def test_kept_scores_are_those_of_the_images_they_are_taken_for(few_digits, small_net):
    images = training_images(few_digits, PLAIN, size=(8, 8), data_share=0.5, device=torch.device("cpu"))
    teacher = taught(small_net(2))
    lessons = lessons_of(small_net(), teacher, images, seed=0)
    again = teacher.teacher(images.plain(torch.arange(len(images)).numpy())).logits
    torch.testing.assert_close(lessons.known, again)
    shifted = training_images(few_digits, Recipe(), size=(8, 8), data_share=0.5, device=torch.device("cpu"))
    assert torch.equal(shifted.plain(torch.arange(9).numpy()), images.plain(torch.arange(9).numpy()))


def test_feature_maps_are_matched_from_the_last_and_the_projections_are_trained(few_digits, small_net):
    teacher, student = small_net(3), small_net()
    assert last_maps(teacher, torch.zeros(2, 1, 8, 8)) == {"2": (16, 8, 8), "6": (32, 4, 4), "7": (32, 2, 2)}
    pupil = Pupil(student, taught(teacher, feature_weight=1.0), torch.zeros(2, 1, 8, 8))
    assert [tuple(part.weight.shape) for part in pupil.projections] == [(16, 16, 1, 1), (32, 32, 1, 1), (32, 32, 1, 1)]
    images = few_digits.images("train")[:32]

    def distance(module: nn.Module) -> float:
        with torch.no_grad():
            return float(Pupil(module.eval(), taught(teacher, feature_weight=1.0), images[:2]).losses(images)[2])

    assert 0 < distance(student) < 4
    result = fit(
        student, few_digits, Recipe(), fidelity=Fidelity(epochs=4), seed=0, teacher=taught(teacher, feature_weight=2.0)
    )
    assert result.train_losses[-1] < result.train_losses[0]
    assert all(torch.isfinite(value).all() for value in student.state_dict().values())
    assert set(student.state_dict()) == set(small_net().state_dict())


def test_a_map_after_a_perfect_projection_has_no_distance():
    student = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    pupil = Pupil(student, taught(student, feature_weight=1.0), torch.zeros(2, 1, 4, 4))
    with torch.no_grad():
        pupil.projections[0].weight.copy_(torch.eye(4).reshape(4, 4, 1, 1))
    _, soft, maps = pupil.eval().losses(torch.randn(3, 1, 4, 4))
    assert float(maps.detach()) == pytest.approx(0, abs=1e-6)
    assert float(soft.detach()) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("feature_weight", [0.0, 1.0])
def test_a_taught_training_that_is_gone_on_with_gives_what_it_would_have_given(
    few_digits, small_net, tmp_path, feature_weight
):
    recipe = Recipe(schedule="constant", warmup_epochs=0)  # a rate that does not depend on the epochs planned
    teacher = taught(small_net(3), feature_weight=feature_weight)
    path = tmp_path / "state.safetensors"
    whole, parted, again = small_net(), small_net(), small_net(9)
    fit(whole, few_digits, recipe, fidelity=BRIEF, seed=0, teacher=teacher)
    fit(parted, few_digits, recipe, fidelity=Fidelity(epochs=1), seed=0, teacher=teacher, checkpoint=path)
    result = fit(again, few_digits, recipe, fidelity=BRIEF, seed=0, teacher=teacher, checkpoint=path)
    assert result.resumed_epochs == 1
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True))
    other = fit(small_net(), few_digits, recipe, fidelity=BRIEF, seed=0, teacher=taught(small_net(4)), checkpoint=path)
    assert other.resumed_epochs == 0


def test_a_teacher_of_another_size_gets_the_images_at_its_size():
    seen = []

    class Looking(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(tuple(x.shape))
            return x.mean(dim=(2, 3))

    TorchTeacher(Looking(), input_size=(12, 16))(torch.zeros(2, 3, 8, 8))
    assert seen == [(2, 3, 12, 16)]


def test_the_teacher_is_neither_trained_nor_left_in_training_mode(few_digits, small_net):
    teacher = small_net(3)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    fit(small_net(), few_digits, Recipe(), fidelity=BRIEF, seed=0, teacher=taught(teacher.train(), feature_weight=1.0))
    assert not teacher.training
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_feature_maps_of_a_teacher_that_shows_none_are_refused(few_digits, small_net):
    class Plain:
        digest = "plain"

        def map_shapes(self, images):
            return {}

        def __call__(self, images, maps=()):
            return Signals(logits=torch.zeros(len(images), 10))

    distillation = Distillation(teacher=Plain(), options=DistilOptions(feature_weight=1.0))
    with pytest.raises(UserError, match=r"compress.feature_weight: must be 0 where the teacher shows no feature maps"):
        fit(small_net(), few_digits, Recipe(), fidelity=BRIEF, seed=0, teacher=distillation)


@pytest.fixture
def user_package(tmp_path, monkeypatch):
    (tmp_path / "my_teachers.py").write_text(
        "from torch import nn\n"
        "def good(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
        "def few(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))\n"
        "def other(): return nn.Linear(5, 10)\n"
        "def number(): return 7\n"
        "def broken(): raise KeyError('weights')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "my_teachers"
    sys.modules.pop("my_teachers", None)


def test_a_users_function_makes_a_teacher(user_package):
    teacher = import_teacher("my_teachers:good", input_shape=(1, 8, 8), num_classes=10, allow=("my_teachers",))
    assert teacher(torch.zeros(3, 1, 8, 8)).logits.shape == (3, 10)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("elsewhere:good", r"must come from an allowed package \(my_teachers\), got 'elsewhere:good'"),
        ("my_teachers:nothing", "has no function 'nothing'"),
        ("my_teachers:few", r"must give 10 scores an image, got an output \(2, 3\)"),
        ("my_teachers:other", "cannot take images"),
        ("my_teachers:number", "must return a torch.nn.Module, got int"),
        ("my_teachers:broken", "must return a torch.nn.Module, got 'weights'"),
    ],
)
def test_a_users_teacher_that_is_none_is_told_in_one_line(user_package, path, words):
    with pytest.raises(UserError, match=f"compress.distil: .*{words}"):
        import_teacher(path, input_shape=(1, 8, 8), num_classes=10, allow=("my_teachers",))


@pytest.mark.parametrize("wrong", [{"weight": 1.1}, {"temperature": 0.0}, {"feature_weight": -1.0}])
def test_options_out_of_their_range_are_refused(wrong):
    with pytest.raises(UserError, match=r"compress\.(distil_)?(weight|temp|feature)"):
        DistilOptions(**wrong)
