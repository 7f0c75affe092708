"""Teach a trained ensemble what came back from the laboratory, and judge whether that helped.

The children of all cross-validation folds and the child that would be used are one network: ``(folds + 1) x members``
copies of the parent side by side, which differ in the weight that each gives to each profile (zero for the fold that
it does not see). So the held-out error is known at every step, and the step at which it was lowest is the one kept.

Against forgetting, every step also holds profiles of other compositions with the parent's own predictions as targets
(learning without forgetting: Li and Hoiem, IEEE TPAMI 40, 2935 (2018)). The statistics of batch normalisation stay the
parent's. Members see their own weights (Bayesian bootstrap: Rubin, Ann. Stat. 9, 130 (1981)) and their own noise, so
that their spread stays a spread.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from drxnet.checkpoint import ModelCard
from drxnet.composition import Composition
from drxnet.dataset import ProfileSet
from drxnet.ensemble import Ensemble
from drxnet.errors import ConfigurationError, DatasetError
from drxnet.network import DRXNet, NetworkShape, ProcessBranch
from drxnet.process import FIELDS, Value
from drxnet.progress import Progress, silent
from drxnet.simulation import CELL_NOISE, ConditionMix, draw_domain, simulate
from drxnet.training import Batch, TrainingOptions, TrainingTensors, batch_losses, freeze_statistics

log = logging.getLogger(__name__)

_PERMUTATIONS = 1999
_MOST_CHANCE = 0.05
_LEAST_ROBUST_MAH_G = 30.0
_FEWEST_TO_RANK = 4
"""Compositions below which no order of theirs is beyond chance."""


@dataclass(frozen=True)
class FineTuningOptions:
    """How an ensemble is fine-tuned, and when the child is good enough."""

    steps: int = 80
    """Most steps of Adam."""

    evaluate_every: int = 10
    """Steps between two looks at the held-out error."""

    patience: int = 5
    """Looks without a lower error after which the training stops."""

    learning_rate: float = 5e-4
    """Of Adam, at its highest; rises over the first :attr:`evaluate_every` steps, then falls linearly to zero."""

    folds: int = 3
    """Parts of the compositions (fewer when there are fewer), each held out once."""

    profiles_per_step: int = 64
    """Most measured profiles of a step."""

    points_per_profile: int = 10
    """Voltages of each of them."""

    replay_profiles: int = 500
    """Profiles simulated from the parent when no training set is given."""

    replay_distance: float = 0.2
    """Largest difference of any amount to a measured composition up to which the parent is not replayed."""

    replay_per_step: int = 48
    """Replayed profiles of a step."""

    replay_weight: float = 7.0
    """Of the loss on them, relative to that on the measured ones."""

    first_cycle_weight: float = 1.0
    """Of the mean absolute error of Q at cycle 1."""

    dqdv_weight: float = 0.03
    """Of the mean squared error of dQ/dV; less than in training, where sharp features of few cells count less."""

    process_rate: float = 0.02
    """Learning rate of the branches for conditions of the process, which start from nothing."""

    process_weight: float = 30.0
    """Pull of their effect back to zero, of its mean square ((mAh/g)^2)."""

    fewest_cells: int = 3
    """Compositions that must state a condition of the process in each of two values for it to get a branch."""

    noise: float = CELL_NOISE
    """Relative standard deviation of a cell, drawn anew for every member."""

    least_gain: float = 0.02
    """Relative fall of the held-out error below which the parent stays."""

    most_drift_mah_g: float = 3.0
    """Mean change of the parent's predictions on replayed compositions above which a step is not kept, whatever it
    gains."""

    drift_for_gain: float = 0.25
    """By how much more they may change for each mAh/g by which the held-out error falls."""

    robust: float = 3.0
    """Times the median error of the parent, from which on an error counts in proportion and not squared: a cell that
    has died must not pull the model."""

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("steps", "evaluate_every", "patience", "profiles_per_step", "points_per_profile"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} must be a whole number from 1. Got {getattr(self, name)!r}.")
        if self.folds < 2:
            raise ConfigurationError(f"folds must be at least 2. Got {self.folds}.")
        if not self.learning_rate > 0:
            raise ConfigurationError(f"learning_rate must be positive. Got {self.learning_rate!r}.")


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What was said of every profile by a child that had not seen it."""

    fold: np.ndarray
    """Part that each of P profiles was held out with; -1 where it never was."""

    capacity_mah_g: np.ndarray
    """At the lower cut-off, mean over members, P."""


@dataclass(frozen=True, eq=False)
class FineTuned:
    """What came of fine-tuning."""

    ensemble: Ensemble
    """The child where it was accepted, else the parent."""

    accepted: bool
    """Whether the child is better than the parent by the rules of the gate."""

    report: dict[str, Any]
    """Errors before and after, drift and the reason, as plain values."""

    held_out: HeldOut | None = None
    """What the children said of what they had not seen; None where nothing could be held out."""


def fine_tune(
    ensemble: Ensemble,
    profiles: ProfileSet,
    *,
    seed: int,
    replay: ProfileSet | None = None,
    options: FineTuningOptions | None = None,
    name: str | None = None,
    progress: Progress = silent,
) -> FineTuned:
    """Fine-tune a copy of an ensemble and accept it only when cross-validation says that it learned.

    The child must (1) predict held-out profiles better than its parent, (2) stay close to its parent elsewhere, and
    (3) know one composition from another: its held-out predictions are better than the mean of the other returned
    profiles, or rank the compositions as the measurements do beyond chance (permutation test, 5 %). Where labels do
    not belong to the compositions, no model can do that. Compositions are held out whole; where there is a single
    one, its last cycles are, or single profiles.

    Args:
        ensemble: the parent; not changed.
        profiles: what was measured: whole profiles and mere capacities, any rates and cycles.
        seed: of the folds, the bootstrap, the noise and the batches.
        replay: profiles to keep in memory, such as the training set; by default simulated from the parent.
        options: how.
        name: of the child.
        progress: told of steps.

    Raises:
        DatasetError: an element that the ensemble has never seen, or targets of another number of members.
    """
    options = options or FineTuningOptions()
    _check_known(ensemble, profiles)
    facts: dict[str, Any] = {
        "profiles": len(profiles),
        "compositions": len(profiles.unique[0]),
        "parent": ensemble.model_id,
        "data_fingerprint": profiles.fingerprint,
        "seed": seed,
    }
    folds, facts["held_out"] = choose_folds(profiles, options.folds, seed)
    if folds is None:
        reason = "The parent stays: a single profile cannot be cross-validated; add a second one."
        return FineTuned(ensemble, False, {**facts, "accepted": False, "reason": reason})
    if replay is None:
        replay = replay_profiles(
            ensemble, options.replay_profiles, seed, away_from=profiles.unique[0], by=options.replay_distance
        )
    school = _School(ensemble, profiles.for_members(ensemble.members), folds, replay, options, seed)
    facts["process"] = list(school.varied)
    best = school.run(progress)
    facts |= school.facts(best)
    accepted, reason = _verdict(facts, options)
    facts |= {"accepted": accepted, "reason": reason, "options": asdict(options)}
    log.info("%s", reason)
    child = school.child(best, name or f"{ensemble.card.name}-tuned", facts) if accepted else ensemble
    return FineTuned(child, accepted, facts, HeldOut(folds, best.predicted[:, 0]))


def _check_known(ensemble: Ensemble, profiles: ProfileSet) -> None:
    unseen = sorted({s for c in profiles.compositions for s in c.elements} - set(ensemble.card.elements))
    if unseen:
        raise DatasetError(
            f"The model {ensemble.card.name} has never seen {', '.join(unseen)}; fine-tuning cannot teach it a new "
            "element. Leave these cells out, or train a model on a set that holds the element."
        )


def choose_folds(profiles: ProfileSet, count: int, seed: int) -> tuple[np.ndarray | None, str]:
    """Decide what is held out.

    Returns:
        Fold of every profile, -1 for those that are never held out, or None when nothing can be; and what the
        folds are, in words.
    """
    compositions = len(profiles.unique[0])
    if compositions > 1:
        return profiles.folds(min(count, compositions), seed), "compositions"
    cycles = np.unique(profiles.cycle)
    if len(cycles) >= 4:
        last = cycles[-max(1, len(cycles) // 4) :]
        return np.where(np.isin(profiles.cycle, last), 0, -1), "the last cycles of the only composition"
    if len(profiles) > 1:
        folds = np.random.default_rng(seed).permutation(len(profiles)) % min(count, len(profiles))
        return folds, "profiles of the only composition"
    return None, "nothing"


def _in_order(name: str, values: Iterable[Value]) -> list[Value]:
    return sorted(values, key=str if FIELDS[name].words else float)


def varied_conditions(profiles: ProfileSet, fewest: int) -> dict[str, list[Value]]:
    """Conditions of the process whose effect can be learned, with the values that occur.

    Args:
        profiles: what was measured.
        fewest: compositions that must state a condition in each of two values that are not the same.
    """
    seen: dict[str, dict[Value, set[Composition]]] = {}
    for composition, process in zip(profiles.compositions, profiles.each_process, strict=True):
        for field, value in process:
            seen.setdefault(field.name, {}).setdefault(value, set()).add(composition)
    found = {}
    for name, held in seen.items():
        groups: dict[Value, set[Composition]] = {}
        for value in _in_order(name, held):
            alike = next((v for v in groups if FIELDS[name].same(v, value)), value)
            groups.setdefault(alike, set()).update(held[value])
        if sum(len(compositions) >= fewest for compositions in groups.values()) >= 2:
            found[name] = _in_order(name, held)
    return {name: found[name] for name in FIELDS if name in found}


def replay_profiles(
    ensemble: Ensemble, count: int, seed: int, *, away_from: Iterable[Composition] = (), by: float = 0.0
) -> ProfileSet:
    """Draw profiles of every member of the parent from its domain, first cycles and later ones.

    Args:
        ensemble: the parent.
        count: of profiles.
        seed: of the draw.
        away_from: compositions about which the laboratory knows better than the parent.
        by: largest difference of any amount up to which a composition counts as near one of them.
    """
    rng = np.random.default_rng([seed, 1])
    measured = tuple(away_from)

    def near(composition: Composition) -> bool:
        return any(composition.distance(other) <= by for other in measured)

    compositions = draw_domain(ensemble, max(2, count // 2), rng, forbidden=near)
    which = np.arange(count) % len(compositions)
    mix = ConditionMix(currents_ma_g={20: 3, 100: 1, 1000: 3}, last_cycle=50, first_cycle_share=0.6)
    conditions = mix.draw(count, rng)
    return simulate(ensemble, [compositions[i] for i in which], conditions, seed=seed, noise=0.0, per_member=True)


@dataclass(frozen=True, eq=False)
class _Best:
    step: int
    error: float
    drift: float
    predicted: np.ndarray
    weights: dict[str, Tensor]


class _School:
    """Children of all folds and the one that may be used, side by side."""

    def __init__(
        self,
        parent: Ensemble,
        profiles: ProfileSet,
        folds: np.ndarray,
        replay: ProfileSet,
        options: FineTuningOptions,
        seed: int,
    ) -> None:
        self.parent, self.profiles, self.folds, self.options = parent, profiles, folds, options
        self.at = _looked_at(profiles.points)
        self.truth = profiles.capacity_mah_g.mean(0)[:, self.at]
        self.rng = np.random.default_rng([seed, 2])
        self.classes = int(folds.max()) + 2  # every fold, and all of the data
        m = parent.members
        self.varied = varied_conditions(profiles, options.fewest_cells)
        """Conditions of the process that get a branch, with their values."""

        shape, state = _with_branches(parent.network, self.varied, seed)
        network = DRXNet(replace(shape, members=self.classes * m))
        network.load_state_dict({k: torch.cat([v] * self.classes) for k, v in state.items()})
        self.network = network.to(parent.device, parent.dtype).train()
        freeze_statistics(self.network)
        old, new = self._split(replay)
        self.data = self._tensors(self._noisy(profiles), self._weights())
        self.replay = self._tensors(old)
        self.known = self._tensors(new)
        self.before = self._capacity(parent.network, self.known)[0]
        said = self._capacity(parent.network, self.data)[0]
        off = float(np.median(np.abs(said - self.truth)))
        self.loss = TrainingOptions(
            members=self.classes * m,
            dqdv_weight=options.dqdv_weight,
            first_cycle_weight=options.first_cycle_weight,
            smoothness_weight=0.0,
            l2_weight=0.0,
            robust_mah_g=max(_LEAST_ROBUST_MAH_G, options.robust * off),
        )

    def _tensors(self, profiles: ProfileSet, weight: np.ndarray | None = None) -> TrainingTensors:
        return TrainingTensors(profiles, device=self.parent.device, dtype=self.parent.dtype, weight=weight)

    def _split(self, replay: ProfileSet) -> tuple[ProfileSet, ProfileSet]:
        """What is replayed, and what is only looked at to see the drift; the parent's members are the targets."""
        own = replay.for_members(self.parent.members)
        if len(own.unique[0]) < 2:
            return own, own
        return own.hold_out(0.3, int(self.rng.integers(2**31)))

    def _noisy(self, profiles: ProfileSet) -> ProfileSet:
        factor = 1 + self.options.noise * self.rng.standard_normal((self.parent.members, len(profiles), 1))
        return replace(
            profiles,
            capacity_mah_g=profiles.capacity_mah_g * factor,
            dqdv_mah_g_v=profiles.dqdv_mah_g_v * factor,
            first_capacity_mah_g=profiles.first_capacity_mah_g * factor,
        )

    def _weights(self) -> np.ndarray:
        """Weight of every profile for every child, ``classes * members x P``: the bootstrap is by composition."""
        compositions, which = self.profiles.unique
        draws = self.rng.exponential(size=(self.parent.members, len(compositions)))[:, which]
        if len(compositions) == 1:
            draws = self.rng.exponential(size=(self.parent.members, len(which)))
        weights = np.stack([np.where(self.folds == f, 0.0, draws) for f in range(self.classes)])  # the last sees all
        return (weights / weights.mean(2, keepdims=True)).reshape(-1, len(which))

    def run(self, progress: Progress) -> _Best:
        """Train until the held-out error no longer falls."""
        options = self.options
        branches = list(self.network.process.parameters())
        others = [p for name, p in self.network.named_parameters() if not name.startswith("process.")]
        groups = [
            {"params": p, "at_most": r}
            for p, r in ((others, options.learning_rate), (branches, options.process_rate))
            if p
        ]
        optimizer = torch.optim.Adam(groups, lr=options.learning_rate, fused=True)
        best = self._look(0)
        before = best.error
        log.debug("before: held-out error %.2f", before)
        for step in range(1, options.steps + 1):
            for group in optimizer.param_groups:
                group["lr"] = group["at_most"] * min(step / options.evaluate_every, 1 - (step - 1) / options.steps)
            optimizer.zero_grad(set_to_none=True)
            loss = self._loss(self.data, options.profiles_per_step)
            loss = loss + options.replay_weight * self._loss(self.replay, options.replay_per_step)
            loss = loss + options.process_weight * self._effects()
            loss.backward()
            optimizer.step()
            progress(step, options.steps)
            if step % options.evaluate_every == 0:
                now = self._look(step)
                log.debug("step %d: held-out error %.2f, drift %.2f mAh/g", step, now.error, now.drift)
                allowed = options.most_drift_mah_g + options.drift_for_gain * max(0.0, before - now.error)
                if now.error < best.error and now.drift <= allowed:
                    best = now
                elif step - best.step >= options.patience * options.evaluate_every:
                    break
        progress(options.steps, options.steps)
        return best

    def child(self, best: _Best, name: str, facts: Mapping[str, Any]) -> Ensemble:
        """The one that learned from everything, as it was at its best."""
        parent, card = self.parent, self.parent.card
        network = DRXNet(replace(self.network.shape, members=parent.members))
        network.load_state_dict(best.weights)
        learned = {condition: list(card.process.get(condition, ())) for condition, _ in network.shape.process}
        learned |= {known: _in_order(known, {*learned[known], *values}) for known, values in self.varied.items()}
        card = ModelCard(
            name=name,
            members=parent.members,
            elements=card.elements,
            network=card.network,
            process=learned,
            parent=parent.model_id,
            data_fingerprint=facts["data_fingerprint"],
            provenance={"made": "fine-tuned", "gate": facts, "parent": dict(card.provenance)},
        )
        return Ensemble(network, card, device=parent.device, dtype=parent.dtype)

    def _effects(self) -> Tensor:
        """Mean square of what the branches do, summed over members."""
        effects = [cast(ProcessBranch, branch).effect for branch in self.network.process.values()]
        pulls = [effect.square().mean((1, 2)).sum() for effect in effects]
        return torch.stack(pulls).sum() if pulls else torch.zeros((), device=self.parent.device)

    def _loss(self, tensors: TrainingTensors, most: int) -> Tensor:
        rows = self.rng.permutation(tensors.profiles)[:most]
        points = min(self.options.points_per_profile, tensors.points)
        columns = self.rng.permuted(np.tile(np.arange(tensors.points), (len(rows), 1)), axis=1)[:, :points]
        batch = tensors.batch(torch.from_numpy(rows), torch.from_numpy(columns))
        return batch_losses(self.network, tensors, self._for_all(batch), self.loss).total(self.loss)

    def _for_all(self, batch: Batch) -> Batch:
        """Repeat the targets of the members for the children of every fold."""
        repeats = {n: getattr(batch, n).repeat(self.classes, 1, 1) for n in ("capacity", "dqdv", "first")}
        return replace(batch, **repeats)

    def _look(self, step: int) -> _Best:
        """Evaluate what is held out and what should not have changed."""
        by_class = self._capacity(self.network, self.data)
        predicted = by_class[np.maximum(self.folds, 0), np.arange(len(self.folds))]
        drift = np.abs(self._capacity(self.network, self.known)[-1] - self.before).mean()
        m = self.parent.members
        weights = {k: v[-m:].detach().clone() for k, v in self.network.state_dict().items()}
        return _Best(step, self._error(predicted), float(drift), predicted, weights)

    def _capacity(self, network: DRXNet, tensors: TrainingTensors) -> np.ndarray:
        """Mean over the members of the capacity at some voltages, ``classes x P x k``."""
        whole = tensors.whole
        with torch.no_grad():
            u = tensors.encode(network, whole.compositions)
            _, now = network.condition(u, whole.current, whole.cycle, whole.process)
            q = network.state(now, whole.window, whole.voltage[:, _looked_at(tensors.points)])
        return q.unflatten(0, (-1, self.parent.members)).mean(1).double().numpy(force=True)

    def _error(self, predicted: np.ndarray) -> float:
        """Mean absolute error over the held-out profiles (mAh/g)."""
        return float(np.abs(predicted - self.truth)[self.folds >= 0].mean())

    def _scaled(self, predicted: np.ndarray) -> tuple[np.ndarray, float]:
        """The parent's predictions times one factor of all cells, fitted to what is not held out; and that of all.

        The factor is the median ratio of measured and predicted capacity, weighted by the predicted one, which makes
        the mean absolute error least.
        """

        def factor(rows: np.ndarray) -> float:
            weight = np.maximum(predicted[rows, 0], 1e-9)
            ratio = self.truth[rows, 0] / weight
            order = np.argsort(ratio)
            half = np.searchsorted(np.cumsum(weight[order]), weight.sum() / 2)
            return float(ratio[order][min(half, len(order) - 1)])

        found = predicted.copy()
        for fold in np.unique(self.folds[self.folds >= 0]):
            found[self.folds == fold] *= factor(self.folds != fold)
        return found, factor(np.ones(len(predicted), bool))

    def _mean_of_others(self) -> np.ndarray:
        """What the mean of the profiles that are not held out predicts, of those at the nearest current if possible."""
        voltage, truth = self.profiles.voltage_v, self.profiles.capacity_mah_g.mean(0)
        current = np.log(self.profiles.current_ma_g)
        predicted = np.empty_like(voltage[:, self.at])
        for row, fold in enumerate(self.folds):
            others = np.flatnonzero(self.folds != fold) if fold >= 0 else np.arange(len(self.folds))
            away = np.abs(current[others] - current[row])
            alike = others[away <= away.min() + 1e-9]
            predicted[row] = np.mean([np.interp(voltage[row, self.at], voltage[o], truth[o]) for o in alike], axis=0)
        return predicted

    def _chance(self, predicted: np.ndarray) -> float | None:
        """How often shuffled compositions would follow the held-out predictions as well as the measured ones do.

        Prediction and measurement are centred among profiles of the same current and cycle, then averaged for each
        composition; the statistic is the sum of their products (Good, Permutation Tests, 2nd ed., 2000).
        """
        compositions, which = self.profiles.unique
        if len(compositions) < _FEWEST_TO_RANK:
            return None
        sides = []
        for values in (predicted, self.truth):
            total = values[:, 0].copy()
            conditions = np.stack([self.profiles.current_ma_g, self.profiles.cycle], 1)
            for alike in np.unique(conditions, axis=0):
                rows = (conditions == alike).all(1)
                total[rows] -= total[rows].mean()
            sides.append(np.bincount(which, total) / np.bincount(which))
        said, measured = sides
        rng = np.random.default_rng(0)
        shuffled = rng.permuted(np.tile(measured, (_PERMUTATIONS, 1)), axis=1) @ said
        return float((1 + (shuffled >= measured @ said).sum()) / (1 + _PERMUTATIONS))

    def facts(self, best: _Best) -> dict[str, Any]:
        """What the gate judges by."""
        before = self._capacity(self.parent.network, self.data)[0]
        scaled, factor = self._scaled(before)
        return {
            "steps": best.step,
            "error_before_mah_g": self._error(before),
            "error_of_the_scaled_mah_g": self._error(scaled),
            "common_factor": factor,
            "error_after_mah_g": best.error,
            "error_of_the_mean_mah_g": self._error(self._mean_of_others()),
            "chance": self._chance(best.predicted),
            "drift_mah_g": best.drift,
            "profiles_held_out": int((self.folds >= 0).sum()),
        }


def _with_branches(network: DRXNet, conditions: Iterable[str], seed: int) -> tuple[NetworkShape, dict[str, Tensor]]:
    """Shape and weights of a network that has a branch for these conditions too, which does nothing yet."""
    old = network.shape
    new = tuple((name, FIELDS[name].width) for name in conditions if name not in dict(old.process))
    shape = replace(old, process=(*old.process, *new))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = DRXNet(shape).to(network.element_vectors.device, network.fade.dtype)
    return shape, {**fresh.state_dict(), **network.state_dict()}


def _looked_at(points: int) -> slice:
    """Voltages at which errors are evaluated: about a dozen of a profile, the lower cut-off among them."""
    return slice(None, None, max(1, points // 12))


def _verdict(facts: Mapping[str, Any], options: FineTuningOptions) -> tuple[bool, str]:
    before, after, mean = (facts[f"error_{k}_mah_g"] for k in ("before", "after", "of_the_mean"))
    if not (math.isfinite(before) and math.isfinite(after)):
        return False, f"The parent stays: the held-out error is not finite ({before:g} -> {after:g} mAh/g)."
    errors = f"held-out error {before:.1f} -> {after:.1f} mAh/g over {facts['profiles_held_out']} profiles"
    if facts["steps"] == 0 or after > before * (1 - options.least_gain):
        return False, (
            f"The parent stays: no step lowered the {errors} by {options.least_gain:.0%} with a drift of at most "
            f"{options.most_drift_mah_g:g} mAh/g and {options.drift_for_gain:g} of the gain."
        )
    chance = facts["chance"]
    if after >= mean and (chance is None or chance > _MOST_CHANCE):
        return False, (
            f"The parent stays: {errors}, but the mean of the other profiles errs by {mean:.1f} mAh/g only, and the "
            "labels do not follow the compositions. Check that every file belongs to the composition it names."
        )
    scaled, factor = facts["error_of_the_scaled_mah_g"], facts["common_factor"]
    common = (
        f" The parent times {factor:.2f} errs by {scaled:.1f} mAh/g: most is common to all cells, as a wrong mass is."
        if scaled < (before + after) / 2
        else ""
    )
    return True, f"Accepted: {errors}, drift {facts['drift_mah_g']:.1f} mAh/g.{common}"
