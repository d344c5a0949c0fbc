"""Whether a Ray cluster answers, told within seconds.

Ray's own connection tries for minutes, in a call that cannot be broken off, and logs all the while.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys

from nas.errors import UserError, one_line

_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 30.0
_TOKEN = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH, as on its head"
_REFUSED = re.compile(r"(?i)unauthenticated|auth(entication)?[ _-]?token|invalid token|RAY_AUTH")
_VERSIONS = re.compile(r"Ray: (\S+)\s+Python: (\S+)")
_PROBE = """
import sys
from ray._private import services
from ray._raylet import GcsClient
address = services.canonicalize_bootstrap_address_or_die(sys.argv[1])
GcsClient(address=address)
"""


def check_reachable(address: str) -> None:
    """Asks the head in a process of its own, which can be ended if it hangs.

    Args:
        address: ``auto`` or ``host:port``.

    Raises:
        UserError: nothing listens there, or what listens does not answer as Ray's head does.
    """
    advice = "start one with `ray start --head`, or leave runner.address=null to run on this machine"
    if address != "auto":
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
        except OSError as error:
            problem = f"no Ray cluster answers at {address} ({error.strerror or error})"
            raise UserError("runner.address", problem, advice) from error
    try:
        probe = subprocess.run(
            [sys.executable, "-P", "-c", _PROBE, address], capture_output=True, timeout=_ANSWER_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        problem = f"what listens at {address} does not answer as a Ray cluster does ({_ANSWER_SECONDS:g} s)"
        raise UserError("runner.address", problem, advice) from error
    if probe.returncode != 0:
        place = "on this machine" if address == "auto" else f"at {address}"
        lines = probe.stderr.decode(errors="replace").strip().splitlines()
        if any(_is_about_tokens(line) for line in lines):
            problem = f"the cluster {place} refuses the token of this shell, or there is none"
            raise UserError("runner.address", problem, _TOKEN)
        said = f" ({lines[-1][:200]})" if lines and address != "auto" else ""
        raise UserError("runner.address", f"no Ray cluster answers {place}{said}", advice)


def why_not(error: Exception) -> str:
    """Why Ray did not join a cluster, in one line: different versions and tokens are named."""
    text = str(error)
    versions = _VERSIONS.findall(text)
    if "ersion mismatch" in text and len(versions) >= 2:
        theirs, ours = (f"Ray {ray} and Python {python}" for ray, python in versions[:2])
        return f"it runs {theirs}, this process {ours}"
    if _is_about_tokens(text):
        return f"the token of this shell is refused, or there is none ({_TOKEN})"
    return one_line(error)


def _is_about_tokens(text: str) -> bool:
    return bool(_REFUSED.search(text))
