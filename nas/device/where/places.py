"""Places where a device's files are timed, as a device card names them.

Responsible for the records and for reading ``where:`` of a card. Nothing here reaches any place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nas.errors import UserError, unknown_name

_KINDS = ("local", "ssh", "adb", "offline", "none")
_SSH = re.compile(r"(?:ssh://)?(?:(?P<user>[^@/:\s]+)@)?(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[^@/:\s]+)(?::(?P<port>\d+))?/?")
_LARGEST_PORT = 65535


@dataclass(frozen=True, kw_only=True)
class Local:
    """The machine that runs the command.

    Attributes:
        cores: logical processors that may be used; empty: all.
    """

    cores: tuple[int, ...] = ()

    def __str__(self) -> str:
        return "measured here"


@dataclass(frozen=True, kw_only=True)
class Ssh:
    """A machine with a POSIX shell, Python and onnxruntime that OpenSSH reaches without a password.

    Attributes:
        host: name, address or alias of ``~/.ssh/config``.
        user: to log in as; "" as OpenSSH decides.
        port: None as OpenSSH decides.
        key: private key; None: those of the agent and OpenSSH's own choice.
        known_hosts: file of host keys to trust; None: OpenSSH's own.
        python: the interpreter there, e.g. ``~/venv/bin/python``.
        folder: for runner and files there; made where it is missing.
        cores: logical processors there that may be used; empty: all.
        timeout_s: to connect.
    """

    host: str
    user: str = ""
    port: int | None = None
    key: Path | None = None
    known_hosts: Path | None = None
    python: str = "python3"
    folder: str = "~/.cache/nas"
    cores: tuple[int, ...] = ()
    timeout_s: int = 10

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        return f"ssh {user}{self.host}" + (f":{self.port}" if self.port else "")


@dataclass(frozen=True, kw_only=True)
class Adb:
    """An Android phone on this machine's adb, with a benchmark program of onnxruntime for it.

    Attributes:
        benchmark: ``onnxruntime_perf_test`` built for the phone.
        libraries: what it loads from beside it, e.g. ``libonnxruntime.so``.
        serial: of the phone as ``adb devices`` lists it; "": the only one.
        folder: for files there.
        cores: logical processors that may be used; empty: all. Phones mix fast and slow ones: name one kind.
        adb: the program.
    """

    benchmark: Path
    libraries: tuple[Path, ...] = ()
    serial: str = ""
    folder: str = "/data/local/tmp/nas"
    cores: tuple[int, ...] = ()
    adb: str = "adb"

    def __str__(self) -> str:
        return f"adb {self.serial}".strip()


@dataclass(frozen=True, kw_only=True)
class Offline:
    """A machine that only people reach: files go there, and results come back, in a folder.

    Attributes:
        folder: that is carried; None: ``offline/<device>``.
        cores: logical processors there that may be used; empty: all.
    """

    folder: Path | None = None
    cores: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"offline {self.folder}" if self.folder else "offline"


@dataclass(frozen=True, kw_only=True)
class Nowhere:
    """A device that is known by its card only."""

    def __str__(self) -> str:
        return "not measured"


Place = Local | Ssh | Adb | Offline | Nowhere


def place_from(record: object, *, where: str) -> Place:
    """The place that ``where:`` of a device card names.

    Args:
        record: text (``local``, ``none``, ``offline``, ``offline:FOLDER``, ``ssh://user@host:port``), a mapping of
            ``kind`` and the fields of the kind's record, or None for ``local``.
        where: the field, for errors.

    Raises:
        UserError: no such kind, an unknown field, or a value that breaks a rule.
    """
    if record is None:
        return Local()
    if isinstance(record, str):
        return _from_text(record.strip(), where)
    if not isinstance(record, Mapping):
        problem = f"must be text or a mapping with a kind, got {record!r}"
        raise UserError(where, problem, "e.g. local, ssh://pi@raspberrypi.local, or {kind: ssh, host: ...}")
    fields = _Fields(record, where)
    kind = fields.text("kind")
    if kind not in _KINDS:
        raise unknown_name(f"{where}.kind", "place", kind, _KINDS)
    place = _from_fields(kind, fields)
    fields.all_used()
    return place


def _from_text(text: str, where: str) -> Place:
    kind, _, rest = text.partition(":")
    if kind == "ssh" and rest.startswith("//"):
        match = _SSH.fullmatch(text)
        if match is None:
            raise UserError(where, f"must be ssh://user@host:port, got {text!r}", "user and port may be left out")
        port = None if match["port"] is None else int(match["port"])
        return _ssh(where, host=match["host"].strip("[]"), user=match["user"] or "", port=port)
    if kind == "offline":
        return Offline(folder=Path(rest).expanduser() if rest else None)
    if text == "local":
        return Local()
    if text == "none":
        return Nowhere()
    if text in ("ssh", "adb"):
        needed = "a host" if text == "ssh" else "the path of a benchmark program"
        raise UserError(where, f"must say more than '{text}'", f"it takes {needed}: {{kind: {text}, ...}}")
    raise unknown_name(where, "place", text, _KINDS, also="ssh://user@host or a mapping with a kind")


def _from_fields(kind: str, fields: _Fields) -> Place:
    if kind == "ssh":
        return _ssh(
            fields.where,
            host=fields.text("host"),
            user=fields.text("user", ""),
            port=fields.whole("port", None),
            key=fields.path("key"),
            known_hosts=fields.path("known_hosts"),
            python=fields.text("python", Ssh.python),
            folder=fields.text("folder", Ssh.folder),
            cores=fields.cores(),
            timeout_s=fields.whole("timeout_s", Ssh.timeout_s) or Ssh.timeout_s,
        )
    if kind == "adb":
        benchmark = fields.path("benchmark")
        if benchmark is None:
            advice = "give the path of an onnxruntime_perf_test that was built for the phone"
            raise UserError(f"{fields.where}.benchmark", "must be given, it is missing", advice)
        return Adb(
            benchmark=benchmark,
            libraries=fields.paths("libraries"),
            serial=fields.text("serial", ""),
            folder=fields.text("folder", Adb.folder),
            cores=fields.cores(),
            adb=fields.text("adb", Adb.adb),
        )
    if kind == "offline":
        return Offline(folder=fields.path("folder"), cores=fields.cores())
    return Local(cores=fields.cores()) if kind == "local" else Nowhere()


def _ssh(where: str, *, host: str, user: str = "", port: int | None = None, **others: object) -> Ssh:
    """Checked: a leading dash or a blank would be an option, or a second word, to OpenSSH."""
    for key, value in (("host", host), ("user", user)):
        if value.startswith("-") or any(letter.isspace() for letter in value):
            raise UserError(f"{where}.{key}", f"must be a plain {key} name, got {value!r}")
    if port is not None and not 1 <= port <= _LARGEST_PORT:
        raise UserError(f"{where}.port", f"must be 1 to {_LARGEST_PORT}, got {port}")
    return Ssh(host=host, user=user, port=port, **others)  # type: ignore[arg-type]


class _Fields:
    """Reads typed values from a mapping and knows which were asked for. A live handle of `place_from`."""

    def __init__(self, record: Mapping[object, object], where: str) -> None:
        self._record, self.where = record, where
        self._known: list[str] = []

    def text(self, key: str, default: str | None = None) -> str:
        value = self._take(key, default)
        # YAML reads a serial of digits as a number.
        value = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if not isinstance(value, str) or (default is None and not value.strip()):
            got = "it is missing" if value is None else f"got {value!r}"
            raise UserError(f"{self.where}.{key}", f"must be text, {got}")
        return value.strip()

    def whole(self, key: str, default: int | None) -> int | None:
        value = self._take(key, default)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UserError(f"{self.where}.{key}", f"must be a whole number of at least 1, got {value!r}")
        return value

    def path(self, key: str) -> Path | None:
        return Path(self.text(key)).expanduser() if self._take(key, None) is not None else None

    def paths(self, key: str) -> tuple[Path, ...]:
        value = self._take(key, [])
        if not isinstance(value, Sequence) or not all(isinstance(entry, str) and entry.strip() for entry in value):
            raise UserError(f"{self.where}.{key}", f"must be a list of paths, got {value!r}")
        return tuple(Path(entry).expanduser() for entry in ([value] if isinstance(value, str) else value))

    def cores(self) -> tuple[int, ...]:
        value = self._take("cores", [])
        entries = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        if not all(isinstance(entry, int) and not isinstance(entry, bool) and entry >= 0 for entry in entries):
            raise UserError(f"{self.where}.cores", f"must be a list of processor numbers, got {value!r}", "e.g. [4, 5]")
        return tuple(sorted(set(entries)))

    def all_used(self) -> None:
        for key in self._record:
            if key not in self._known:
                raise unknown_name(f"{self.where}.{key}", "field", key, self._known)

    def _take(self, key: str, default: object) -> object:
        self._known.append(key)
        value = self._record.get(key)
        return default if value is None else value
