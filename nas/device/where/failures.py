"""What can go wrong with a place, beyond a plain user error: callers may want to tell these apart."""

from __future__ import annotations

from nas.errors import UserError


class BoardBusyError(UserError):
    """Another measurement holds the machine."""


class ConnectionLostError(UserError):
    """The machine went away while it measured; what `on_measured` was told is good."""


class WaitingForResults(UserError):  # noqa: N818  nothing failed, it is somebody's turn
    """A folder has to be carried to a machine, or back, before anything can be read."""
