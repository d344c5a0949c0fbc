"""Files that agree with the float file, or come as near to it as may be.

Responsible for two choices that are made by what a file answers to the calibration images: the method by which ranges
are found, and the operators that go back to more bits because the file would not agree otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from nas.deploy.judge import run_file
from nas.deploy.options import METHODS, Activations, Method, Precision
from nas.deploy.precision.assignment import Assignment
from nas.deploy.precision.calibration import Calibrated, calibrate
from nas.deploy.precision.sensitivity import Alone, Network, compared, sensitivities, worst_first
from nas.deploy.quantise import tool_errors
from nas.errors import UserError

_NOISE_IMAGES = 64
_MORE_BITS: Mapping[Precision, Precision] = {"int4": "int8", "int8": "float32", "int8-dynamic": "float32"}


@dataclass(frozen=True, kw_only=True)
class Held:
    """Precisions after some operators went back.

    Attributes:
        assignment: operator -> precision.
        reverted: operators that have more bits than they were meant to have, in the order in which they went back.
        agreement: of the file with the float file, on the images.
    """

    assignment: Assignment
    reverted: tuple[str, ...]
    agreement: float


def best_method(network: Network, assignment: Assignment, images: np.ndarray, activations: Activations) -> Calibrated:
    """Ranges by the method whose file gives the float file's class for most images.

    Between methods that agree equally often the one with the least noise in its logits is taken, then the first of
    `METHODS`. The images are those that ranges are found on.

    Args:
        network: in float; what it is calibrated by is not looked at.
        assignment: operator -> precision.
        images: ``(n, c, h, w)`` float32.
        activations: sign of 8-bit activations.

    Raises:
        UserError: no method gives a file that can be made and run.
    """
    reference = run_file(network.path, images)
    tried: list[tuple[Alone, Calibrated]] = []
    problems: list[UserError] = []
    methods: tuple[Method, ...] = tuple(name for name in METHODS if name != "auto")
    for method in methods:
        try:
            with tool_errors(network.path, "quantised"):
                calibrated = calibrate(network.prepared, images, activations=activations, method=method)
            logits = replace(network, calibrated=calibrated).logits(assignment, images)
        except UserError as error:
            problems.append(error)
            continue
        tried.append((compared(logits, reference, None), calibrated))
    if not tried:
        raise problems[0]
    return max(tried, key=lambda pair: (pair[0].agreement, pair[0].output_sqnr_db))[1]


def hold_agreement(
    network: Network, assignment: Assignment, images: np.ndarray, *, min_agreement: float, most: int
) -> Held:
    """Gives operators more bits, the most sensitive first, until the file agrees with the float file.

    An operator goes back where that raises the agreement, or keeps it with less noise in the logits: 4 bits become 8,
    8 become float32. It costs nothing but one run where the file agrees at once.

    Args:
        network: in float, calibrated.
        assignment: operator -> precision.
        images: ``(n, c, h, w)`` float32.
        min_agreement: share of images with the float file's class.
        most: operators that may go back; twice as many are tried.

    Raises:
        UserError: the network cannot be quantised or run.
    """
    reference = run_file(network.path, images)
    kept = dict(assignment)
    state = compared(network.logits(kept, images), reference, None)
    reverted: list[str] = []
    if state.agreement >= min_agreement or not most:
        return Held(assignment=kept, reverted=(), agreement=state.agreement)
    found = sensitivities(network, kept, images[:_NOISE_IMAGES], worst=2 * most)
    for name in worst_first(found)[: 2 * most]:
        softer = _with_more_bits(kept, name, network)
        try:
            tried = compared(network.logits(softer, images), reference, None)
        except UserError:  # some mixtures no runtime takes; the operator stays as it is
            continue
        if (tried.agreement, tried.output_sqnr_db) > (state.agreement, state.output_sqnr_db):
            kept, state = softer, tried
            reverted.append(name)
        if state.agreement >= min_agreement or len(reverted) == most:
            break
    return Held(assignment=kept, reverted=tuple(reverted), agreement=state.agreement)


def _with_more_bits(assignment: Assignment, name: str, network: Network) -> dict[str, Precision]:
    softer = _MORE_BITS.get(assignment[name], "float32")
    if softer == "int8" and network.calibrated is None:
        softer = "float32"
    rest: dict[str, Precision] = {operator: given for operator, given in assignment.items() if operator != name}
    return rest if softer == "float32" else {**rest, name: softer}
