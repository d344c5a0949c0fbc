"""`nas spaces` and `nas devices`: small commands that need no config."""

from __future__ import annotations

from nas.errors import UserError, printable
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
        counts = f"{format_size(space.size):>10} architectures  {len(space.choices):>3} choices"
        print(printable(f"{name:<18} {counts}  {space.source}"))
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
        print(printable(f"{name:<{width}}  {device.where!s:<14}  {device.description}"))
        print(printable(f"{'':<{width}}  latency models: {known}  ({cards[0]})"))
    return 0
