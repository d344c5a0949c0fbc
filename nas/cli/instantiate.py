"""Config nodes with `_target_` -> objects. The only place where a name in a config becomes an import."""

from __future__ import annotations

import dataclasses
import importlib
import types
import typing
from collections.abc import Mapping, Sequence

from nas.errors import UserError, unknown_name

# What members of a group answer to, or are; written out, because importing them here would be slow.
_METHODS = {"data": "load", "strategy": "propose", "runner": "start", "callbacks": "open"}
_KINDS = {
    "recipe": "nas.train.recipe.Recipe",
    "deploy": "nas.deploy.options.DeployOptions",
    "compress": "nas.train.compression.options.CompressOptions",
}


def instantiate(node: object, *, where: str, allow: Sequence[str] = ()) -> object:
    """Builds the object that a mapping with ``_target_`` names; nested mappings with ``_target_`` too.

    Args:
        node: ``{"_target_": "nas.train.recipe.Recipe", "epochs": 3}``.
        where: the field, for errors.
        allow: import prefixes beside ``nas.`` that a target may come from.

    Raises:
        UserError: no target, a target outside the allowed prefixes, one that cannot be imported, a field that the
            class does not have, or a value that it refuses.
    """
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise UserError(where, f"must be a group with a _target_, got {node!r}", f"choose one, e.g. {where}=<name>")
    target = str(node["_target_"])
    kind = _import(target, where=where, allow=allow)
    _check_group(kind, target, where=where)
    fields: dict[str, object] = {}
    for name, value in node.items():
        if name == "_target_":
            continue
        nested = isinstance(value, Mapping) and "_target_" in value
        fields[str(name)] = instantiate(value, where=f"{where}.{name}", allow=allow) if nested else _frozen(value)
    if dataclasses.is_dataclass(kind):
        known = [field.name for field in dataclasses.fields(kind) if field.init]
        for name in fields:
            if name not in known:
                raise unknown_name(f"{where}.{name}", f"field of {where}", name, known)
        _check_types(kind, fields, where=where)
    try:
        made: object = kind(**fields)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise UserError(where, f"{target} refuses its fields: {error}") from error
    return made


def _check_group(kind: type, target: str, *, where: str) -> None:
    """Refuses a class of ours that is no member of its group."""
    group = where.partition(".")[0] if where.startswith("callbacks.") else where
    if not target.startswith("nas."):  # whoever brings a class of their own knows what it is for
        return
    method, wanted = _METHODS.get(group), _KINDS.get(group)
    if method is not None and not callable(getattr(kind, method, None)):
        raise UserError(
            where, f"must be a class with {method}(), {target} has none", f"choose one, e.g. {group}=<name>"
        )
    if wanted is not None and wanted not in (f"{base.__module__}.{base.__qualname__}" for base in kind.__mro__):
        raise UserError(where, f"must be a {wanted} or made from it, got {target}", f"choose one, e.g. {group}=<name>")


def _check_types(kind: type, fields: Mapping[str, object], *, where: str) -> None:
    """Refuses scalars of another type than annotated, before arithmetic on a string fails somewhere deep inside."""
    hints = typing.get_type_hints(kind)
    for name, value in fields.items():
        allowed = _scalar_types(hints.get(name, object))
        if allowed is None:
            continue
        fits = isinstance(value, tuple(allowed)) and not (isinstance(value, bool) and bool not in allowed)
        if isinstance(value, int) and not isinstance(value, bool) and float in allowed:
            fits = True
        if not fits:
            names = " or ".join("null" if t is type(None) else t.__name__ for t in allowed)
            raise UserError(f"{where}.{name}", f"must be {names}, got {value!r}")


def _scalar_types(hint: object) -> list[type] | None:
    """The scalar types that an annotation admits; None when it admits anything else."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    scalars = [option for option in options if option in (bool, int, float, str, type(None))]
    return scalars if scalars and len(scalars) == len(options) else None


def _frozen(value: object) -> object:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def _import(target: str, *, where: str, allow: Sequence[str]) -> type:
    prefixes = ("nas", *allow)
    if not any(target.startswith(prefix.rstrip(".") + ".") for prefix in prefixes):
        raise UserError(
            f"{where}._target_",
            f"must start with one of {', '.join(p.rstrip('.') + '.' for p in prefixes)}, got '{target}'",
            f"add its package with allow=[{target.split('.')[0]}] if you trust it",
        )
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{where}._target_", f"cannot be imported, got '{target}': {error}") from error
    if not isinstance(found, type):
        raise UserError(f"{where}._target_", f"must name a class, got '{target}'")
    # A module's own records of settings, and not what it imports: making one checks its fields and does nothing else.
    ours = target.startswith("nas.") and not any(f"{target}.".startswith(f"{p.rstrip('.')}.") for p in allow)
    if ours and not (dataclasses.is_dataclass(found) and found.__module__.startswith("nas.")):
        raise UserError(f"{where}._target_", f"must name a group of settings of nas, got '{target}'")
    return found
