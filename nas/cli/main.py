"""The `nas` command: finds the sub-command and is the border where errors become one line.

Imports nothing heavy at its head, so that `nas --help` answers at once.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Sequence

from nas.errors import UserError, printable_line, unknown_name

_USAGE = """\
nas: hardware-aware neural architecture search, from a data set and budgets to verified model files

usage: nas <command> [field=value ...]

commands
  search     search a space for networks that fit your budgets; train, export and measure the best
  calibrate  measure architectures on a device, and fit the latency model that searches ask
  retrain    models of a run trained long, with a tuned recipe, as a new run
  profile    where the time of a model file goes, operator by operator
  compress   a model of your own made smaller: quantised, pruned, taught, mixed; each file run, judged and timed
  export     models of a run for their runtimes, with loaders and golden outputs, as one bundle
  check      which operators of a space or a model a runtime would refuse or slow down, before any training
  devices    list the devices that are found from here, and what is known of each
  spaces     list the search spaces that are found from here, with their sizes
  status     how a run is: progress, what runs where, busy workers, failures; also of killed runs
  runs       list, compare, merge and export runs
  verify     check a bundle or a model folder: checksums, and its files against their golden outputs

options
  nas <command> --help    groups, fields and defaults of a command
  nas --version           the version

examples
  nas search
  nas search space=resnet-tiny budget.latency="0.4 ms" run.candidates=60
  nas search data=folder data.path=photos data.resolution=64
  nas search run.resume=runs/2026-11-23-digits run.candidates=60
  nas export run=runs/2026-11-23-digits targets=[onnxruntime,litert]
  nas compress model=my_nets:trained allow=[my_nets] data=folder data.path=photos budget.latency="2 ms"
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command. Returns the exit code: 0 done, 1 failed, 2 the user's mistake, 130 stopped by the user."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_USAGE, end="")
        return 0
    if arguments[0] == "--version":
        from nas import __version__

        print(f"nas {__version__}")
        return 0
    here = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _interrupt) if here else None
    try:
        return _command(arguments[0])(arguments[1:])
    except UserError as error:
        print(f"error: {printable_line(str(error))}", file=sys.stderr)
        return 2
    except RecursionError as error:
        if "JSON" not in str(error):
            raise
        print("error: nas: a JSON file that was given is nested deeper than any that nas writes", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(printable_line(str(stop.args[0])) if stop.args else "stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 1
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: object) -> None:
    """Schedulers and containers end a program by SIGTERM: for a search the same as Ctrl-C."""
    raise KeyboardInterrupt


def _command(name: str) -> Callable[[list[str]], int]:
    if name not in _COMMANDS:
        raise unknown_name("nas", "command", name, _COMMANDS)
    return _COMMANDS[name]


def _search(arguments: list[str]) -> int:
    from nas.cli.search import run_search

    return run_search(arguments)


def _calibrate(arguments: list[str]) -> int:
    from nas.cli.calibrate import run_calibrate

    return run_calibrate(arguments)


def _retrain(arguments: list[str]) -> int:
    from nas.cli.retrain import run_retrain

    return run_retrain(arguments)


def _profile(arguments: list[str]) -> int:
    from nas.cli.profile import run_profile

    return run_profile(arguments)


def _export(arguments: list[str]) -> int:
    from nas.cli.export import run_export

    return run_export(arguments)


def _compress(arguments: list[str]) -> int:
    from nas.cli.compress import run_compress

    return run_compress(arguments)


def _check(arguments: list[str]) -> int:
    from nas.cli.check import run_check

    return run_check(arguments)


def _devices(arguments: list[str]) -> int:
    from nas.cli.listings import list_devices

    return list_devices(arguments)


def _spaces(arguments: list[str]) -> int:
    from nas.cli.listings import list_spaces

    return list_spaces(arguments)


def _status(arguments: list[str]) -> int:
    from nas.cli.status import run_status

    return run_status(arguments)


def _runs(arguments: list[str]) -> int:
    from nas.cli.runs import run_runs

    return run_runs(arguments)


def _verify(arguments: list[str]) -> int:
    from nas.cli.verify import run_verify

    return run_verify(arguments)


_COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "search": _search,
    "calibrate": _calibrate,
    "retrain": _retrain,
    "profile": _profile,
    "compress": _compress,
    "export": _export,
    "check": _check,
    "devices": _devices,
    "spaces": _spaces,
    "status": _status,
    "runs": _runs,
    "verify": _verify,
}

if __name__ == "__main__":
    sys.exit(main())
