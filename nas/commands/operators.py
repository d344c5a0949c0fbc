"""`nas calibrate operators=true`: a model of a device's kernels, which serves every search space.

Responsible for what is measured when: probes drawn at random, then those that tell most in view of them, and networks
of the known spaces, which take no part in the fit and say how far it is off on networks. Every measurement is kept as
soon as it is taken, so that an interrupted calibration goes on.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.commands.display import Display
from nas.commands.locate_device import device_folders
from nas.deploy.options import Exporter
from nas.deploy.untrained import export_untrained
from nas.device.card import Device, Precision
from nas.device.host import host_facts
from nas.device.measurements import Measured, MeasurementFile
from nas.device.operators import OperatorsModel, Probed, Provenance, fit_operators
from nas.device.operators_design import choose_probes
from nas.device.operators_store import operators_file, save_operators
from nas.device.protocol import Measurement, TimingProtocol
from nas.device.where.measure import measure_on
from nas.device.where.places import Local, Offline
from nas.errors import UserError
from nas.locate import resource_folder
from nas.model.population_costs import PopulationCosts
from nas.model.probes import NUM_CLASSES, draw_probes
from nas.model.shapes import InputShape
from nas.run.folder import check_place
from nas.space.load import load_space
from nas.space.moves import sample
from nas.space.network import Network
from nas.units import format_quantity

_STREAM = 5  # of the seed
_POOL = 2  # probes to choose from, for each that is measured
_CHECK_SHAPE: InputShape = (3, 32, 32)
_FREE_BYTES = 1_000_000
_Row = tuple[int, int]  # (0, number of a probe) or (1 + number of a space, number of a network)


@dataclass(frozen=True, kw_only=True)
class OperatorsRun:
    """How a device's kernels are measured.

    Attributes:
        probes: chains of layers to time; half of them drawn at random.
        checks: networks of each known space to time besides.
        blocks: of the timing protocol.
        refresh: measure again what is measured.
        seed: of the choice of probes and networks.
        exporter: of the files.
    """

    probes: int = 200
    checks: int = 8
    blocks: int = 8
    refresh: bool = False
    seed: int = 0
    exporter: Exporter = "torchscript"

    def __post_init__(self) -> None:
        for name, least in (("probes", 80), ("checks", 0), ("blocks", 1), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UserError(f"operators.{name}", f"must be a whole number of at least {least}, got {value!r}")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Check:
    """Networks of a space that the fit does not see."""

    name: str
    features: NDArray[np.float64]
    networks: tuple[Network, ...]


def calibrate_operators(
    device: Device, precisions: Sequence[Precision], run: OperatorsRun, display: Display
) -> dict[Precision, OperatorsModel]:
    """Measures what is not measured yet, fits a model of the device's kernels for each precision and stores it.

    Models go to ``./latency_models/<device>/operators-<precision>.npz``, measurements beside them.

    Raises:
        UserError: the device cannot be reached or measured on, or too few measurements settled. What was measured is
            kept.
    """
    folder = device_folders()[0] / device.name
    check_place(folder, where="latency_models", needed=_FREE_BYTES)
    rng = np.random.default_rng([run.seed, _STREAM])
    display.say("operators", f"measuring {run.probes} probes of {device.name} as {' and '.join(precisions)}")
    probes = draw_probes(_POOL * run.probes, rng)
    pool = _Pool(
        features=np.array([probe.features for probe in probes]),
        networks=tuple((probe.network, probe.in_shape) for probe in probes),
        checks=_checks(run.checks, rng) if run.checks else (),
    )
    models = {}
    for precision in precisions:
        models[precision] = _Precision(device, precision, pool, run, display).model()
        save_operators(models[precision], folder / operators_file(precision))
        display.say("operators", f"{precision}: {models[precision].quality}, on single probes")
        for name, errors in models[precision].checks.items():
            off, spread = np.expm1(errors.mean()), errors.std()
            display.say("operators", f"{precision}: {name}: {off:+.1%} off, then {spread:.1%} from network to network")
    return models


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pool:
    """What may be measured.

    Attributes:
        features: ``(P, F)``, of probes; the first half of those asked for counts as drawn at random.
        networks: each with its input shape.
        checks: networks of the known spaces.
    """

    features: NDArray[np.float64]
    networks: tuple[tuple[Network, InputShape], ...]
    checks: tuple[_Check, ...]

    def network(self, row: _Row) -> tuple[Network, InputShape]:
        place, number = row
        return (self.checks[place - 1].networks[number], _CHECK_SHAPE) if place else self.networks[number]

    def digest(self) -> str:
        """Over all that may be measured."""
        names = [network.digest for network, _ in self.networks]
        names += [network.digest for check in self.checks for network in check.networks]
        return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]


class _Precision:
    """The calibration of one precision: what its steps share."""

    def __init__(self, device: Device, precision: Precision, pool: _Pool, run: OperatorsRun, display: Display) -> None:
        self.device, self.precision, self.pool, self.run, self.display = device, precision, pool, run, display
        self.protocol = TimingProtocol(blocks=run.blocks)
        path = device_folders()[0] / device.name / "measurements" / f"operators-{precision}.jsonl"
        self.store = MeasurementFile(path, self._subject())
        self.refused: dict[_Row, Measurement] = {}
        if run.refresh:
            self.store.forget()

    def model(self) -> OperatorsModel:
        """Measures and fits."""
        # What is measured where nobody can reach is carried there once: without a choice in view of measurements.
        rounds = 0 if isinstance(self.device.where, Offline) else 2
        num_random = self.run.probes if rounds == 0 else self.run.probes // 2
        first = [(0, number) for number in range(num_random)]
        first += [(1 + k, n) for k, check in enumerate(self.pool.checks) for n in range(len(check.networks))]
        self._measure(first, num_random)
        for number in range(rounds):
            known = {row[1]: one.latency_ms for row, one in self._known().items() if row[0] == 0}
            wanted = num_random + (self.run.probes - num_random) * (number + 1) // rounds
            measured = np.array(sorted(known), dtype=np.intp)
            latency_ms = np.array([known[index] for index in measured.tolist()])
            left = wanted - len(measured) - sum(row[0] == 0 for row in self.refused)
            if left > 0 and len(measured):
                chosen = choose_probes(self.pool.features, measured, latency_ms, left)
                self._measure([(0, index) for index in chosen.tolist()], num_random)
        return self._fit()

    def _subject(self) -> dict[str, object]:
        """What the file of measurements is about."""
        device = self.device
        return {
            "operators": self.pool.digest(),
            "precision": self.precision,
            "device": device.name,
            "threads": device.threads,
            "batch": device.batch,
            "protocol": self.protocol.describe(),
        }

    def _known(self) -> dict[_Row, Measured]:
        """What was measured on the machine that is there now; the last of several of one file."""
        measured = self.store.read()
        if not measured:
            return {}
        here = isinstance(self.device.where, Local)
        now = host_facts().fingerprint(self.device.threads) if here else measured[-1].fingerprint
        return {(one.row[0], one.row[1]): one for one in measured if one.fingerprint == now}

    def _measure(self, rows: Sequence[_Row], num_random: int) -> None:
        """Exports and times what is not timed yet."""
        known = self._known()
        missing = [row for row in rows if row not in known]
        if not missing:
            return
        with tempfile.TemporaryDirectory(prefix="nas-operators-") as scratch:
            files = self._export(missing, Path(scratch))
            levels = [one.anchor_ms for one in known.values() if np.isfinite(one.anchor_ms)]
            measure_on(
                self.device,
                list(files),
                protocol=self.protocol,
                reference_ms=min(levels) if levels else None,
                progress=lambda done, total: self.display.progress("measure", done, total, text="files timed"),
                on_measured=lambda group: self._keep(group, files, num_random),
            )

    def _export(self, rows: Sequence[_Row], folder: Path) -> dict[Path, _Row]:
        files: dict[Path, _Row] = {}
        for number, row in enumerate(rows):
            network, shape = self.pool.network(row)
            try:
                written = export_untrained(
                    network,
                    folder,
                    [self.precision],
                    input_shape=shape,
                    num_classes=NUM_CLASSES,
                    exporter=self.run.exporter,
                )
            except UserError as error:
                self.display.note(f"a probe is left out as {self.precision}: {error}")
            else:
                files[written[self.precision]] = row
            self.display.progress("export", number + 1, len(rows), text="probes to time")
        return files

    def _keep(self, group: Sequence[Measurement], files: Mapping[Path, _Row], num_random: int) -> None:
        """Stores the measurements of a group that settled."""
        for measurement in group:
            if not measurement.settled:
                self.refused[files[measurement.file]] = measurement
        self.store.append([self._kept(one, files[one.file], num_random) for one in group if one.settled])

    def _kept(self, measurement: Measurement, row: _Row, num_random: int) -> Measured:
        return Measured.of(
            measurement,
            row=row,
            random=row[0] > 0 or row[1] < num_random,
            protocol=self.protocol.describe(),
            threads=self.device.threads,
        )

    def _fit(self) -> OperatorsModel:
        known = self._known()
        if self.refused:
            reason = next(iter(self.refused.values())).note
            self.display.note(
                f"{len(self.refused)} {self.precision} timings did not settle and are not used (the first: {reason})"
            )
        probes = {row: one for row, one in known.items() if row[0] == 0}
        if not probes:
            raise UserError(f"calibration of {self.device.name}", "no timing settled", "go on when it is quieter")
        probed = Probed(
            features=self.pool.features[[number for _, number in probes]],
            latency_ms=np.array([one.latency_ms for one in probes.values()]),
            random=np.array([one.random for one in probes.values()]),
        )
        span = probed.latency_ms
        text = f"{format_quantity(float(span.min()), 'time')} to {format_quantity(float(span.max()), 'time')}"
        self.display.say("operators", f"{self.precision}: {len(probed)} probes, {text}")
        return fit_operators(probed, self._provenance(list(known.values())[-1]), checks=self._check_tables(known))

    def _check_tables(self, known: Mapping[_Row, Measured]) -> dict[str, NDArray[np.float64]]:
        """Space -> features of its networks that were measured, their ms behind."""
        tables = {}
        for place, check in enumerate(self.pool.checks, start=1):
            timed = {number: one.latency_ms for (at, number), one in known.items() if at == place}
            if timed:
                latency_ms = np.array(list(timed.values()))[:, None]
                tables[check.name] = np.hstack([check.features[list(timed)], latency_ms])
        return tables

    def _provenance(self, newest: Measured) -> Provenance:
        return Provenance(
            device=self.device.name,
            precision=self.precision,
            threads=self.device.threads,
            batch=self.device.batch,
            protocol=newest.protocol,
            anchor_ms=newest.anchor_ms,
            host=newest.host,
            fingerprint=newest.fingerprint,
            time=newest.time,
            num_unsettled=len(self.refused),
        )


def _checks(count: int, rng: np.random.Generator) -> tuple[_Check, ...]:
    """Random networks of each space that comes with the program, but for those that only ship others differently."""
    found = []
    for path in sorted(resource_folder("search_spaces").glob("*.yaml")):
        space = load_space(path)
        if space.deploy is not None:
            continue
        costs = PopulationCosts(space, input_shape=_CHECK_SHAPE, num_classes=NUM_CLASSES)
        rows = sample(space, 4 * count, rng)
        rows = np.unique(rows[costs.buildable(rows)], axis=0)
        rows = rows[rng.permutation(len(rows))[:count]]
        networks = tuple(space.network(row) for row in rows)
        found.append(_Check(name=space.name, features=costs.features(rows), networks=networks))
    return tuple(found)
