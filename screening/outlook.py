"""What one round knows, worked out once and handed to whatever scores, chooses, ranks or shows."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from drxnet.composition import MODEL_METALS, Composition
from drxnet.ensemble import Amounts, Ensemble
from drxnet.process import FIELDS, NOT_STATED, Process
from screening.domain import Domain
from screening.encoding import Encoding
from screening.goals import Goals
from screening.improvement import Improvement, log_feasibility, objectives_of
from screening.measured import Made, Measured
from screening.quantities import Quantity
from screening.streaming import StreamMarginals
from screening.surrogate import DRXNetGaussianModel, EnsembleReader, Points
from screening.synthesis import PhaseModel, Tried


@dataclass(frozen=True)
class Outlook:
    """Ensemble, goals, what is measured and pending, and the surrogate fitted to it.

    It travels as the values below: the ensemble is loaded where it arrives, and the surrogate conditioned with the
    hyperparameters that were fitted once, by :meth:`of`.
    """

    goals: Goals
    measured: tuple[Measured, ...]
    pending: tuple[Made, ...]
    """Proposed and not yet measured, or half measured, and how each is to be made."""

    model: str
    """Folder of the ensemble."""

    model_id: str
    device: str
    hyperparameters: tuple[tuple[str, tuple[float, ...]], ...]
    incumbents: tuple[tuple[float, ...], ...] = ()
    """Signed objectives of what is known and probably feasible, by their posterior means."""

    tried: tuple[Tried, ...] = ()
    """Syntheses that the probability of the phase is learned from; without any, every synthesis is taken to work."""

    elsewhere: tuple[Measured, ...] = ()
    """What other laboratories found, less their offset (:mod:`screening.elsewhere`); the surrogate learns from it."""

    ways: tuple[Process, ...] = ()
    """Processes that a proposal may choose from; without any, candidates are made as the goals say."""

    engine: str = "auto"
    """What encodes compositions, of :data:`drxnet.engines.ENGINES`: they differ in speed and in the sixth digit."""

    @classmethod
    def of(
        cls,
        ensemble: Ensemble,
        goals: Goals | None = None,
        *,
        measured: Iterable[Measured] = (),
        pending: Iterable[Composition | Made] = (),
        tried: Iterable[Tried] = (),
        elsewhere: Iterable[Measured] = (),
        ways: Iterable[Process] = (),
    ) -> Self:
        """Fit the surrogate to what was measured.

        Args:
            ensemble: the current model.
            goals: objectives and constraints.
            measured: what came back; without any quantity of the goals it teaches nothing.
            pending: what is being made, as the goals say where nothing else is said; it may also be in `measured`.
            tried: syntheses that the probability of the phase is learned from.
            elsewhere: what other laboratories found, less their offset.
            ways: processes that a proposal may choose from.
        """
        goals, measured, elsewhere = goals or Goals(), tuple(measured), tuple(elsewhere)
        ways = tuple(way.over(goals.rates.process) for way in ways)
        told = (*measured, *elsewhere)
        surrogate = _conditioned(ensemble, goals, told, ways, fitting=True).fit()
        if any(m.learned is not None for m in told):
            surrogate = _conditioned(ensemble, goals, told, ways).with_hyperparameters(surrogate.hyperparameters())
        outlook = cls(
            goals=goals,
            measured=measured,
            pending=(),
            model=str(ensemble.path),
            model_id=ensemble.card.model_id,
            device=str(ensemble.device),
            hyperparameters=tuple((k, tuple(v)) for k, v in surrogate.hyperparameters().items()),
            tried=tuple(tried),
            elsewhere=elsewhere,
            ways=ways,
        )
        return outlook._with(ensemble, surrogate).awaiting(pending)

    def awaiting(self, pending: Iterable[Composition | Made]) -> Self:
        """Look at the same measurements with something else pending."""
        waiting = replace(self, pending=tuple(dict.fromkeys(map(self.made_as_chosen, pending))))
        waiting._with(self.ensemble, self.surrogate)
        incumbents: tuple[tuple[float, ...], ...] = ()
        if waiting.made:
            mean, std = self.surrogate.marginals(self.read(*zip(*waiting.made, strict=True)))
            good = self.log_feasible(mean, std) >= math.log(0.5)
            incumbents = tuple(map(tuple, self.signed(mean[good]).tolist()))
        return replace(waiting, incumbents=incumbents)._with(self.ensemble, self.surrogate)

    def updated(
        self, measured: Iterable[Measured], pending: Iterable[Composition | Made], tried: Iterable[Tried] = ()
    ) -> Self:
        """What is known now; fitted again only where something was measured in the meantime."""
        measured, tried = tuple(measured), tuple(tried)
        if measured == self.measured:
            return replace(self, tried=tried)._with(self.ensemble, self.surrogate).awaiting(pending)
        others = self.elsewhere
        return type(self).of(
            self.ensemble, self.goals, measured=measured, pending=pending, tried=tried, elsewhere=others, ways=self.ways
        )

    def fitted(self) -> dict[str, Any]:
        """What was fitted to the data, as plain values: other machines fit the same to other last digits."""
        return {
            "hyperparameters": {name: list(values) for name, values in self.hyperparameters},
            "incumbents": [list(row) for row in self.incumbents],
        }

    def with_fitted(self, fitted: Mapping[str, Any], tolerance: float = 1e-3) -> Self:
        """The same with what was fitted elsewhere, where that is what was fitted here within a relative tolerance."""
        told, names = fitted["hyperparameters"], [name for name, _ in self.hyperparameters]
        if set(told) != set(names):
            return self
        other = replace(
            self,
            hyperparameters=tuple((name, tuple(told[name])) for name in names),
            incumbents=tuple(map(tuple, fitted["incumbents"])),
        )
        mine, theirs = (_numbers(outlook.fitted()) for outlook in (self, other))
        if len(mine) != len(theirs) or not np.allclose(mine, theirs, rtol=tolerance, atol=tolerance):
            return self
        return other._with(self.ensemble, other._condition(self.ensemble))

    def for_stream(self, engine: str, compositions: int) -> Self:
        """The same by the engine that is best for so many compositions, wherever it travels."""
        ensemble = self.ensemble.with_engine(engine)
        ensemble = ensemble.with_engine(ensemble.engine_for(compositions))
        twin = replace(self, engine=ensemble.engine)
        return twin._with(ensemble, twin._condition(ensemble))

    # -- what it knows -----------------------------------------------------------------------------------

    @cached_property
    def ensemble(self) -> Ensemble:
        """The members; loaded where the outlook has travelled to."""
        return Ensemble.load(self.model, device=self.device, engine=self.engine)

    @cached_property
    def surrogate(self) -> DRXNetGaussianModel:
        """The Gaussian model, conditioned and fitted."""
        return self._condition(self.ensemble)

    @cached_property
    def marginals(self) -> StreamMarginals:
        """What the surrogate says of many points, one by one."""
        return StreamMarginals(self.surrogate)

    @cached_property
    def left_out(self) -> tuple[np.ndarray, ...]:
        """Squared errors over variance of what is measured, each value predicted by all others, for each quantity.

        Of what the ensemble has learned from, the error is that of what it said before.
        """
        told, surrogate = (*self.measured, *self.elsewhere), self.surrogate
        if any(m.learned is not None for m in told):
            surrogate = _conditioned(self.ensemble, self.goals, told, self.ways, fitting=True)
            surrogate = surrogate.with_hyperparameters(dict(self.hyperparameters))
        own = np.array([m.values(self.goals) for m in self.measured]).reshape(-1, len(self.goals.quantities))
        found = []
        for output, count in zip(surrogate.outputs, np.isfinite(own).sum(0), strict=True):
            if not count:
                found.append(np.zeros(0))
                continue
            errors, variances = output.left_out()
            found.append((errors.square() / variances).numpy()[:count])
        return tuple(found)

    @cached_property
    def domain(self) -> Domain:
        """What the model knows, from reported and measured compositions."""
        with torch.no_grad():
            return Domain(self.ensemble, self.known, self.surrogate.reader.scale)

    @cached_property
    def improvement(self) -> Improvement:
        """On what is known and probably feasible."""
        unit = self.surrogate.reader.unit[list(self.goals.objective_columns)]
        incumbents = torch.tensor(self.incumbents, dtype=torch.float64).reshape(-1, len(self.goals.objectives))
        return Improvement(self.goals, unit, incumbents)

    @cached_property
    def phases(self) -> PhaseModel | None:
        """How probably a synthesis gives the phase; None where nothing is known of any."""
        return PhaseModel(self.tried) if self.tried else None

    @cached_property
    def known(self) -> tuple[Composition, ...]:
        """What is measured."""
        return tuple(m.composition for m in self.measured)

    def made_as_chosen(self, made: Composition | Made) -> Made:
        """How something that is chosen is made: as the goals say where nothing else is said or can be chosen."""
        composition, process = made if isinstance(made, tuple) else (made, NOT_STATED)
        usual = self.goals.rates.process
        return composition, process.over(usual) if self.ways else usual

    @cached_property
    def made(self) -> tuple[Made, ...]:
        """What is measured, with the process of its cells, then what is pending and not measured so, each once.

        With processes to choose from, what is measured is taken as it was made; without, as the campaign makes it.
        """
        usual = self.goals.rates.process
        measured = ((m.composition, m.process if self.ways else usual) for m in self.measured)
        return tuple(dict.fromkeys((*measured, *(made for made in self.pending if not self.is_measured(*made)))))

    def is_measured(self, composition: Composition, process: Process) -> bool:
        """Whether a composition is measured, made so; where there is nothing to choose, however it was made."""
        return any(not self.ways or known.covers(process) for known in self._processes.get(composition, ()))

    def is_pending(self, composition: Composition, process: Process) -> bool:
        """Whether a composition is pending, to be made so; where there is nothing to choose, however it is made."""
        return any(not self.ways or known.covers(process) for known in self._planned.get(composition, ()))

    @cached_property
    def _processes(self) -> Mapping[Composition, tuple[Process, ...]]:
        return _by_composition((m.composition, m.process) for m in self.measured)

    @cached_property
    def _planned(self) -> Mapping[Composition, tuple[Process, ...]]:
        return _by_composition(self.pending)

    @cached_property
    def fingerprint(self) -> str:
        """Changes with everything that scores depend on."""
        left_out = ("model", "device", *(["ways"] if not self.ways else []))
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in left_out}
        if not self.ways:
            values["pending"] = tuple(composition for composition, _ in self.pending)
        return hashlib.sha256(repr(list(values.items())).encode()).hexdigest()

    # -- what it says ------------------------------------------------------------------------------------

    def read(
        self, compositions: Amounts | Sequence[Composition | str], processes: Sequence[Process] | None = None
    ) -> Points:
        """Ask the ensemble about n compositions.

        Args:
            compositions: n of them.
            processes: by which each is made; by default all as the goals say.
        """
        amounts = compositions if isinstance(compositions, Amounts) else Amounts.of(compositions)
        reader = self.surrogate.reader
        with torch.no_grad():
            stated = None if processes is None else reader.encoding.encode_processes(processes)
            return reader.read(amounts, None, stated)

    def best_ways(
        self,
        compositions: Sequence[Composition],
        by: Quantity,
        spread: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
    ) -> list[Process]:
        """Of the processes to choose from, the one whose pessimistic bound of a quantity is best for each, ``n``.

        Args:
            compositions: n.
            by: whose bound.
            spread: standard deviations of a mean and a standard deviation, ``n x m``; by default those themselves.
        """
        if not self.ways:
            return [self.goals.rates.process] * len(compositions)
        amounts, column = Amounts.of(compositions), self.goals.column(by)
        points, bounds = self.read(amounts), []
        for way in self.ways:
            mean, std = (m.numpy() for m in self.surrogate.marginals(self.remade(points, amounts, way)))
            bound = self.goals.lower(mean, std if spread is None else spread(mean, std))
            bounds.append(bound[:, column] * self.goals.signs[column])
        return [self.ways[i] for i in np.argmax(bounds, axis=0)]

    def remade(self, points: Points, amounts: Amounts, process: Process) -> Points:
        """What the ensemble says of points if they are all made in another way."""
        if self.ensemble.card.process:
            return self.read(amounts, [process] * len(amounts))
        columns = self.surrogate.reader.encoding.encode_processes([process])
        return replace(points, process=columns.expand_as(points.process))

    def signed(self, values: Tensor) -> Tensor:
        """Objectives of quantities, larger is better, ``... x m -> ... x k``."""
        return objectives_of(self.goals, values)

    def spread(self, std: Tensor) -> Tensor:
        """Standard deviations of the objectives, ``n x m -> n x k``."""
        return std[:, list(self.goals.objective_columns)]

    def log_feasible(self, mean: Tensor, std: Tensor) -> Tensor:
        """Log of the probability that all constraints are met, ``n x m -> n``."""
        return log_feasibility(self.goals, mean, std)

    def log_phase(self, amounts: Amounts) -> Tensor:
        """Log of the probability that a synthesis gives the phase, ``n``; 0 where nothing is known of any."""
        if self.phases is None:
            return torch.zeros(len(amounts), dtype=torch.float64)
        return self.phases.probability(amounts).log()

    @property
    def caution(self) -> float:
        """Power of the probability of the phase in a score (:attr:`screening.synthesis.PhaseModel.caution`)."""
        return 1.0 if self.phases is None else self.phases.caution

    def __getstate__(self) -> dict[str, Any]:
        """Travel without the ensemble."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def _with(self, ensemble: Ensemble, surrogate: DRXNetGaussianModel) -> Self:
        self.__dict__.update(ensemble=ensemble, surrogate=surrogate)
        return self

    def _condition(self, ensemble: Ensemble) -> DRXNetGaussianModel:
        model = _conditioned(ensemble, self.goals, (*self.measured, *self.elsewhere), self.ways)
        return model.with_hyperparameters(dict(self.hyperparameters))


def _by_composition(made: Iterable[Made]) -> dict[Composition, tuple[Process, ...]]:
    found: dict[Composition, tuple[Process, ...]] = {}
    for composition, process in made:
        found[composition] = (*found.get(composition, ()), process)
    return found


def _numbers(fitted: Mapping[str, Any]) -> list[float]:
    rows = [*(fitted["hyperparameters"][name] for name in sorted(fitted["hyperparameters"])), *fitted["incumbents"]]
    return [value for row in rows for value in row]


def _conditioned(
    ensemble: Ensemble,
    goals: Goals,
    measured: Sequence[Measured],
    ways: Sequence[Process] = (),
    *,
    fitting: bool = False,
) -> DRXNetGaussianModel:
    """Build the surrogate on everything measured, hyperparameters as they are without data.

    What the ensemble itself has learned from moves no mean: it narrows the spread as any observation does, and is what
    the ensemble says now. The hyperparameters, that is how wrong the ensemble is, are fitted to what it said while the
    observation was held out. An ensemble that has no branch for a condition in which the cells differ has not learned
    what they say of it, so that they count as if it had not seen them.
    """
    useful = [m for m in measured if np.isfinite(m.values(goals)).any()]
    metals = {s for m in useful for s in m.composition.metals} or set(MODEL_METALS)
    encoding = Encoding(tuple(metals - {"Li"}), _told_apart([goals.rates.process, *ways, *(m.process for m in useful)]))
    if not useful:
        return DRXNetGaussianModel(ensemble, encoding, goals)
    values, variances = (
        torch.from_numpy(np.stack(rows))
        for rows in zip(*((m.values(goals), m.variances(goals)) for m in useful), strict=True)
    )
    x = encoding.encode([m.composition for m in useful], [m.process for m in useful])
    knows_process = set(encoding.process) <= set(ensemble.card.process)
    if knows_process and any(m.learned is not None for m in useful):
        with torch.no_grad():
            now = EnsembleReader(ensemble, encoding, goals).read_rows(x).mean.mT
        missed = values - torch.from_numpy(np.stack([m.held_out(goals) for m in useful]))
        as_now = now + missed if fitting else torch.where(values.isnan(), torch.nan, now)
        inside = torch.tensor([m.learned is not None for m in useful])
        values = torch.where(inside[:, None], as_now, values)
    return DRXNetGaussianModel(ensemble, encoding, goals, x, values, variances)


def _told_apart(processes: Sequence[Process]) -> tuple[str, ...]:
    """Conditions that are stated differently: what all state alike, or nobody states, teaches nothing."""
    rows = [process.row() for process in processes]
    return tuple(name for name in FIELDS if len({row[name] for row in rows if name in row}) > 1)
