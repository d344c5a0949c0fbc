"""Whether a folder was made here, by this user: asked before anything in it is unpickled.

Ray Tune keeps its state in pickles, and reading a pickle runs what its writer wanted. So a folder that Tune writes into
gets a seal when it is made: an HMAC, whose key lies outside of it and is readable by the user only, over what no copy
of the folder has: its number, that of a file in it, and the moment at which the kernel last changed that file's entry.
A folder that was sent, unpacked, or copied has others, whatever it holds. Only its owner can enter it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path

from nas.errors import UserError

_MARK, _SEAL = ".own", ".seal"
_KEY_BYTES = 32


def seal(folder: Path) -> None:
    """Makes a folder that only this user can enter, and marks it as made here. Does nothing where it is so already.

    Raises:
        UserError: it cannot be made, or the key cannot be kept.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        if foreign(folder):
            (folder / _MARK).write_bytes(b"")
            (folder / _SEAL).write_text(_seal_of(folder, _key(make=True)))
    except OSError as error:
        problem = f"cannot be kept from others: {error.strerror or error}"
        raise UserError(str(error.filename or folder), problem, "XDG_CACHE_HOME says where the key lies") from error


def foreign(folder: Path) -> str:
    """Why a folder may hold what others wrote; "" where it was sealed here."""
    try:
        about = folder.lstat()
        if not stat.S_ISDIR(about.st_mode):
            return "is no folder"
        if about.st_uid != os.getuid():
            return "belongs to another user"
        if about.st_mode & 0o077:
            return "can be entered by other users"
        found = (folder / _SEAL).read_text(errors="replace")
        wanted = _seal_of(folder, _key())
    except OSError:
        return "has no seal of this user on this machine"
    return "" if hmac.compare_digest(found.encode(), wanted.encode()) else "was not made here: its seal is another one"


def key_file() -> Path:
    """Where the key lies: in the user's cache folder, outside of every run."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "nas" / "tuning.key"


def _seal_of(folder: Path, key: bytes) -> str:
    mark = (folder / _MARK).lstat()
    message = f"{folder.lstat().st_ino} {mark.st_ino} {mark.st_ctime_ns}"
    return hmac.new(key, message.encode(), hashlib.sha256).hexdigest()


def _key(*, make: bool = False) -> bytes:
    path = key_file()
    if make and not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, secrets.token_bytes(_KEY_BYTES))
        finally:
            os.close(descriptor)
        try:
            os.link(partial, path)  # another process may be as far; the first one has it
        except FileExistsError:
            pass
        finally:
            partial.unlink()
    about = path.lstat()
    if not stat.S_ISREG(about.st_mode) or about.st_uid != os.getuid() or about.st_mode & 0o077:
        raise PermissionError(1, "must be a file that only its owner can read", str(path))
    key = path.read_bytes()
    if len(key) != _KEY_BYTES:
        raise PermissionError(1, f"must hold {_KEY_BYTES} bytes; remove it to have a new one", str(path))
    return key
