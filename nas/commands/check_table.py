"""The text that `nas check` prints: one block a target and precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nas.deploy.targets.causes import Cause

if TYPE_CHECKING:
    from nas.commands.check import CheckedTarget, Finding

_EFFECTS = {"refused": "refused", "leaves": "leaves the accelerator", "float": "runs in float"}
_SHOWN_CHOICES = 3


def check_table(checked: Sequence[CheckedTarget]) -> str:
    """A block for each target and precision: ``ok``, or its findings with what brings them in."""
    return "\n".join(["", *(line for one in checked for line in _block(one)), ""])


def _block(one: CheckedTarget) -> list[str]:
    head = f"{one.target}  {one.precision}"
    note = [f"    {one.note}"] if one.note else []
    if one.problem:
        return [f"{head}  not checked: {one.problem}"]
    if not one.findings:
        return [f"{head}  every operator of {_models(one.models)} runs as it should", *note]
    return [head, *note, *(line for finding in one.findings for line in _finding(finding, one.models))]


def _finding(finding: Finding, models: int) -> list[str]:
    share = f"in {finding.models} of {_models(models)}"
    lines = [f"    {finding.operator}  {_EFFECTS[finding.effect]}, {share}: {finding.reason}"]
    lines += [f"        {_cause(cause)}" for cause in finding.causes]
    if not finding.causes and finding.example:
        lines.append(f"        e.g. {finding.example}")
    return [*lines, f"        ({finding.source})"]


def _cause(cause: Cause) -> str:
    places = f", {', '.join(cause.where)}" if cause.where else ""
    if not cause.choices:
        return f"{cause}{places}"
    shown = ", ".join(cause.choices[:_SHOWN_CHOICES])
    more = len(cause.choices) - _SHOWN_CHOICES
    return f"{cause}, chosen by {shown}{f' and {more} more' if more > 0 else ''}"


def _models(count: int) -> str:
    return f"{count} model{'' if count == 1 else 's'}"
