"""Weights & Biases: figures of each candidate and of the search, offline unless asked otherwise.

Needs the package ``wandb``. What was written offline is sent by ``wandb sync runs/<name>/wandb/offline-run-*``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nas.errors import UserError, unknown_name
from nas.run.callbacks.callback import Ended, Evaluated, Started
from nas.run.callbacks.extras import check_package, load
from nas.run.callbacks.figures import event_figures

_PACKAGE = "wandb"
_MODES = ("offline", "online", "shared", "disabled")
_KEPT = ("command", "seed", "space", "data", "objectives", "budgets", "config", "versions", "commit")


@dataclass(frozen=True, kw_only=True)
class WeightsAndBiases:
    """Logs to a project.

    Attributes:
        project: of the run.
        entity: user or team; None: the account's.
        mode: ``offline`` writes into the run folder and nowhere else; ``online`` needs an account.
        group: that several runs belong to; None for none.

    Raises:
        UserError: an unknown mode.
    """

    project: str = "nas"
    entity: str | None = None
    mode: str = "offline"
    group: str | None = None
    name = "wandb"

    def __post_init__(self) -> None:
        if self.mode not in _MODES:
            raise unknown_name("callbacks.wandb.mode", "mode", self.mode, _MODES)
        if not self.project:
            raise UserError("callbacks.wandb.project", "must be a name, got ''")

    def check(self) -> None:
        """See `nas.run.callbacks.callback.Callback`."""
        check_package(self.name, _PACKAGE)

    def open(self, started: Started) -> _Listener:
        """See `nas.run.callbacks.callback.Callback`."""
        return _Listener(self, started)


class _Listener:
    def __init__(self, options: WeightsAndBiases, started: Started) -> None:
        wandb = load(WeightsAndBiases.name, _PACKAGE, "wandb")
        config = {key: started.manifest[key] for key in _KEPT if key in started.manifest}
        self._run: Any = wandb.init(
            project=options.project,
            entity=options.entity,
            mode=options.mode,
            group=options.group,
            name=started.name,
            dir=str(started.folder),
            config=config,
            reinit="create_new",
            # It neither takes over what this process prints nor looks at the code that is run.
            settings=wandb.Settings(console="off", disable_code=True, disable_git=True, silent=True),
        )

    def __call__(self, event: Evaluated | Ended) -> None:
        if isinstance(event, Ended):
            self._run.finish(exit_code=1 if event.state == "failed" else 0)
            return
        self._run.log({**event_figures(event), "candidate/status": event.evaluation.status}, step=event.position)
