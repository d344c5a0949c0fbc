"""Finding a space by name: the user's `search_spaces/` first, then the shipped ones, or a path to a file."""

from __future__ import annotations

from pathlib import Path

from nas.errors import UserError, unknown_name
from nas.locate import resource_folder
from nas.space.load import load_space
from nas.space.space import SearchSpace


def space_folders() -> list[Path]:
    """Folders that are looked through, in order."""
    return [folder for folder in (Path("search_spaces"), resource_folder("search_spaces")) if folder.is_dir()]


def known_spaces() -> list[str]:
    """Names that `find_space` answers to."""
    return sorted({file.stem for folder in space_folders() for file in folder.glob("*.yaml")})


def find_space(name: str) -> SearchSpace:
    """The space called ``name``, or in the file ``name``. Raises `UserError` for an unknown name or a broken file."""
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise UserError("space", f"no file {name}", "give a name or a path to a YAML file")
        return load_space(Path(name))
    for folder in space_folders():
        if (folder / f"{name}.yaml").is_file():
            return load_space(folder / f"{name}.yaml")
    raise unknown_name("space", "space", name, known_spaces(), also="or a path to a YAML file")
