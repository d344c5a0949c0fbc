"""`nas spaces`, `nas devices` and `nas verify`: small commands that need no config."""

from __future__ import annotations

from pathlib import Path

from nas.errors import UserError
from nas.units import format_size


def list_spaces(arguments: list[str]) -> int:
    """Prints each space that is found from here: name, size, number of choices, file."""
    from nas.commands.locate_space import find_space, known_spaces

    if arguments and arguments[0] in ("-h", "--help"):
        print("usage: nas spaces   (lists search_spaces/ here, then the shipped ones)")
        return 0
    if arguments:
        raise UserError("nas spaces", f"must have no arguments, got {' '.join(arguments)}")
    for name in known_spaces():
        space = find_space(name)
        print(
            f"{name:<18} {format_size(space.size):>10} architectures  {len(space.choices):>3} choices  {space.source}"
        )
    return 0


def list_devices(arguments: list[str]) -> int:
    """Prints each device that is found from here: name, where it is measured, its latency models, what it is."""
    from nas.commands.locate_device import device_folders
    from nas.device.card import CARD, device_names, load_device

    if arguments and arguments[0] in ("-h", "--help"):
        print("usage: nas devices   (lists latency_models/ here, then the shipped ones)")
        return 0
    if arguments:
        raise UserError("nas devices", f"must have no arguments, got {' '.join(arguments)}")
    folders = device_folders()
    names = device_names(folders)
    width = max(map(len, names))
    for name in names:
        device = load_device(name, folders)
        stored = {file.stem for folder in folders for file in (folder / name).glob("*.npz")}
        cards = [folder / name / CARD for folder in folders if (folder / name / CARD).is_file()]
        known = ", ".join(sorted(stored)) if stored else "estimated from its card" if device.peaks else "-"
        print(f"{name:<{width}}  {device.where!s:<14}  {device.description}")
        print(f"{'':<{width}}  latency models: {known}  ({cards[0]})")
    return 0


def verify_folder(arguments: list[str]) -> int:
    """Checks bundles, model folders, or all model folders of a run, and prints a line for each file of a bundle."""
    usage = "nas verify <bundle folder | bundle.zip | run folder | model folder> ..."
    if not arguments:
        raise UserError("nas verify", "must be given a bundle or a folder, got nothing", usage)
    if arguments[0] in ("-h", "--help"):
        print(f"usage: {usage}")
        return 0
    from nas.deploy.bundle.verify import is_bundle

    for argument in arguments:
        path = Path(argument)
        if is_bundle(path):
            _verify_bundle(path)
        else:
            _verify_models(path)
    return 0


def _verify_bundle(path: Path) -> None:
    # Without torch: a bundle is checked where numpy and a runtime are.
    from nas.deploy.bundle.checking.check import lines_of
    from nas.deploy.bundle.verify import verify_bundle

    print("\n".join(lines_of(verify_bundle(path), path)))


def _verify_models(path: Path) -> None:
    from nas.deploy.load import verify_model_folder

    # A folder with a dot in front is one that was being written when its worker died.
    folders = sorted((path / "models").glob("[!.]*/")) if (path / "models").is_dir() else [path]
    if not folders:
        raise UserError(str(path), "holds no models")
    for folder in folders:
        checks = verify_model_folder(folder)
        print(f"ok  {folder}  {', '.join(str(check) for check in checks)}")
