"""`nas calibrate`: arguments -> settings -> the command."""

from __future__ import annotations

from collections.abc import Sequence

from nas.cli.hydra_run import run_under_hydra
from nas.cli.options import checked_arguments


def run_calibrate(arguments: list[str]) -> int:
    """Runs `nas calibrate` with Hydra arguments. Returns the exit code; raises `UserError` for the user's mistakes."""
    run_under_hydra("calibrate", checked_arguments("nas calibrate", arguments), _calibrate_with)
    return 0


def _calibrate_with(config: dict[str, object], overrides: Sequence[str]) -> None:
    # Imported late: composing, and `--help`, must not wait for torch.
    from nas.cli.display import display_named
    from nas.cli.settings import calibrate_settings_from_config
    from nas.commands.calibrate_device import calibrate_device
    from nas.device.where.failures import WaitingForResults

    display = display_named(str(config["display"]))
    try:
        calibrate_device(calibrate_settings_from_config(config), display=display)
    except WaitingForResults as waiting:
        # Not a mistake: the first half of an offline calibration is done.
        display.say("offline", waiting.problem)
        if waiting.advice:
            display.say("next", waiting.advice)
