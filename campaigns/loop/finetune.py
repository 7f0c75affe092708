"""Let the model of a campaign learn from what came back.

Every time, the ensemble that the campaign started with is fine-tuned on all valid measurements: a retracted one is
forgotten, and errors do not build up from round to round. A gate decides whether the child is used.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from campaigns.errors import LedgerLocked
from campaigns.intake.judgement import MODEL_ERROR_MAH_G, Expected, judge, weighed_standing
from campaigns.ledger.entry import Entry
from campaigns.ledger.physics import faults_of_numbers
from campaigns.ledger.records import DOUBTFUL, MeasuredProfile, Measurement, ModelRecord, NewModel, Snapshot
from campaigns.workspace import Workspace
from drxnet.checkpoint import ModelCard, as_files, read_card
from drxnet.composition import Composition
from drxnet.errors import ConfigurationError, DRXError, UsageError
from drxnet.progress import Progress, silent
from screening.estimates import same_conditions

if TYPE_CHECKING:
    from drxnet.dataset import ProfileSet
    from drxnet.ensemble import Ensemble
    from drxnet.finetuning import FineTuned, HeldOut
    from screening.goals import Rates
    from screening.quantities import Discharge

_log = logging.getLogger(__name__)

REFUSED = "refused"
"""Stands in the ledger for the model id of a child that the gate refused; its weights are not kept."""

WORST = 3
"""Discharges that the gate names as those it errs most in."""

ATTEMPTS = 3
"""Fine-tunings in a row that may be overtaken by measurements that come or go."""


@dataclass(frozen=True)
class Learned:
    """What came of a fine-tuning."""

    accepted: bool
    """Whether the child passed the gate."""

    model: ModelRecord
    """The one in use now."""

    measurements: int
    """Discharges that it was given."""

    error_before_mah_g: float | None
    """Of the starting model, on held-out compositions."""

    error_after_mah_g: float | None
    """Of the child, on the same."""

    sentence: str
    """What happened, for a person."""

    predicted: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    """Every discharge beside what the model said before and says now; the child has seen it."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "accepted": self.accepted,
            "model": self.model.model_id,
            "measurements": self.measurements,
            "error_before_mah_g": self.error_before_mah_g,
            "error_after_mah_g": self.error_after_mah_g,
            "sentence": self.sentence,
            "predicted": list(self.predicted),
        }


def fine_tune_campaign(campaign: Workspace, *, device: str = "cpu", progress: Progress = silent) -> Learned:
    """Fine-tune the starting model on every valid measurement and record what came of it.

    When measurements are added or withdrawn meanwhile, the child is dropped and another one learns from what is valid.

    Args:
        campaign: whose measurements.
        device: to train on.
        progress: told of steps.

    Raises:
        UsageError: nothing was measured yet that the model could learn from.
        LedgerLocked: the measurements changed during each of several attempts.
    """
    for _ in range(ATTEMPTS):
        if (learned := _attempt(campaign, device, progress)) is not None:
            return learned
        _log.warning("Measurements were added or withdrawn while the model learned; it begins again.")
    raise LedgerLocked(
        f"Campaign {campaign.name}: measurements were added or withdrawn each of {ATTEMPTS} times while the model "
        "learned. Nothing was recorded; fine-tune again when nobody is ingesting."
    )


@dataclass(frozen=True)
class _Lesson:
    """What one attempt learns from, and how."""

    first: ModelRecord
    """The starting model."""

    lost: ModelRecord | None
    """The model in use, where its weights are lost."""

    known: Sequence[MeasuredProfile]
    without: Sequence[Measurement]
    """Measurements that are left out, as no error can be formed of them."""

    profiles: ProfileSet
    settings: Mapping[str, Any]

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the measurements learned from."""
        return tuple(m.measurement.measurement_id for m in self.known)

    def stands(self, campaign: Workspace, state: Snapshot, card: ModelCard) -> bool:
        """Whether this is still what there is to learn from."""
        left = {m.measurement_id for m in self.without}
        now = tuple(m.measurement_id for m in _learnable(campaign, state, card) if m.measurement_id not in left)
        same_model = self.lost is None or state.current_model == self.lost
        return now == self.ids and state.first_model == self.first and same_model

    def tried_before(self, state: Snapshot) -> ModelRecord | None:
        """The last attempt, when it was this one, nothing withdrawn is in use and nothing is lost."""
        last = next((m for m in reversed(state.models) if m.data_fingerprint is not None), None)
        if last is None or self.lost is not None or _learned_from_withdrawn(state):
            return None
        same_settings = all(last.metrics.get(key) == value for key, value in self.settings.items())
        same_data = (last.measurement_ids, last.data_fingerprint) == (self.ids, self.profiles.fingerprint)
        return last if same_settings and same_data else None


def _attempt(campaign: Workspace, device: str, progress: Progress) -> Learned | None:
    """Learn from what is valid now; None when that is not what is valid once it is learned."""
    from drxnet.finetuning import FineTuningOptions, fine_tune

    state, seed = campaign.state(), campaign.spec.seed
    options = _options(FineTuningOptions, campaign.spec.fine_tuning.options)
    lost = None if campaign.models.has(state.current_model) else state.current_model
    first = campaign.ensemble(state.first_model, device=device)
    state = _judged_first(campaign, state, first)
    known, without = _of_finite_error(first, campaign.ledger.profiles(_learnable(campaign, state, first.card)))
    if not known:
        return _back_to_start(campaign)
    settings = {"seed": seed, "options": asdict(options)}
    lesson = _Lesson(state.first_model, lost, known, without, profile_set(known, state), settings)
    if (earlier := lesson.tried_before(state)) is not None:
        return _as_before(state, earlier)
    name = f"{campaign.name}-{len(state.models) + 1}"
    child = fine_tune(first, lesson.profiles, seed=seed, options=options, name=name, progress=progress)
    child = _beside_the_gaussian_model(campaign, state, first, known, child)
    current = first if lost else campaign.ensemble(state.current_model, device=device)
    left_out = _said_to_be_left_out(campaign, state, without)
    with campaign.ledger.write("finetune") as entry:
        if not lesson.stands(campaign, entry.before, first.card):
            return None
        if (earlier := lesson.tried_before(entry.before)) is not None:
            return _as_before(entry.before, earlier)
        entry.summary = sentence = " ".join(filter(None, (_record(entry, child, lesson), left_out)))
    in_use = campaign.state().current_model
    campaign.model_path(in_use)  # so that the folder has it, too
    return Learned(
        child.accepted,
        in_use,
        len(known),
        child.report.get("error_before_mah_g"),
        child.report.get("error_after_mah_g"),
        sentence,
        _compared(known, current, child.ensemble if child.accepted else current),
    )


def _beside_the_gaussian_model(
    campaign: Workspace, state: Snapshot, parent: Ensemble, known: Sequence[MeasuredProfile], child: FineTuned
) -> FineTuned:
    """Use a child only where it beats its parent with the Gaussian model on what neither has seen.

    What the child said of each discharge while it was held out is kept with it, so that no datum counts twice; what it
    erred most in is named.
    """
    from campaigns.loop.forecast import HELD_OUT

    if child.held_out is None:
        return child
    rows = [i for i, m in enumerate(known) if child.held_out.fold[i] >= 0]
    said = {known[i].measurement.measurement_id: float(child.held_out.capacity_mah_g[i]) for i in rows}
    report = {**child.report, HELD_OUT: said}
    worst = _worst(known, rows, child.held_out.capacity_mah_g)
    if worst:
        report["reason"] = f"{report['reason']} Farthest off while held out: {worst}."
    if not child.accepted:
        return replace(child, report=report)
    made = [Composition.parse(_made(state, m.measurement)) for m in known]
    cells = [m.measurement for m in known]
    beside = errors_at_the_rates(parent, campaign.goals(state).rates, made, cells, child.held_out)
    if not beside:
        return replace(child, report=report)
    ours, theirs = (np.concatenate([getattr(b, f"{who}_mah_g") for b in beside]) for who in ("child", "gaussian"))
    report |= {
        "error_of_child_mah_g": float(ours.mean()),
        "error_of_gaussian_model_mah_g": float(theirs.mean()),
        "discharges_compared": len(ours),
    }
    said_of_both = "; ".join(map(str, beside))
    if all(b.child_is_better for b in beside):
        return replace(child, report=report | {"reason": f"{report['reason']} The child is used: {said_of_both}."})
    reason = (
        f"The parent stays: the child is better than it ({report['error_before_mah_g']:.1f} -> "
        f"{report['error_after_mah_g']:.1f} mAh/g), but not, at each rate and by more than chance, than the parent "
        f"with the Gaussian model, which learns from the same cells: {said_of_both}."
    )
    reason += f" Farthest off while held out: {worst}." if worst else ""
    return replace(child, ensemble=parent, accepted=False, report=report | {"accepted": False, "reason": reason})


@dataclass(frozen=True)
class HeldOutErrors:
    """How far off a child and its parent with the Gaussian model were at one rate, where both had seen the same."""

    current_ma_g: float
    child_mah_g: np.ndarray
    """Absolute error of each discharge, ``n``."""

    gaussian_mah_g: np.ndarray
    """Likewise."""

    @property
    def gain_mah_g(self) -> tuple[float, float]:
        """By how much the child errs less on average, and the standard error of that (0 of a single discharge)."""
        gains = self.gaussian_mah_g - self.child_mah_g
        return float(gains.mean()), float(gains.std(ddof=1) / math.sqrt(len(gains))) if len(gains) > 1 else 0.0

    @property
    def child_is_better(self) -> bool:
        """Whether it gains more than a standard error."""
        gain, error = self.gain_mah_g
        return gain > error

    def __str__(self) -> str:
        """Both mean absolute errors."""
        child, gaussian = self.child_mah_g.mean(), self.gaussian_mah_g.mean()
        return (
            f"on {len(self.child_mah_g)} held-out first discharges at {self.current_ma_g:g} mA/g it errs by "
            f"{child:.1f} mAh/g, the parent with the Gaussian model by {gaussian:.1f}"
        )


def _worst(known: Sequence[MeasuredProfile], rows: Sequence[int], said_mah_g: np.ndarray) -> str:
    """Discharges that a child errs most in while they are held out, in words."""
    off = sorted(rows, key=lambda i: -abs(known[i].measurement.capacity_mah_g - said_mah_g[i]))
    return "; ".join(
        f"{m.measurement_id} ({m.proposal_id} {m.cell}, {m.conditions.current_ma_g:g} mA/g: {m.capacity_mah_g:.0f} "
        f"measured, {said_mah_g[i]:.0f} expected mAh/g)"
        for i in off[:WORST]
        for m in [known[i].measurement]
    )


def errors_at_the_rates(
    parent: Ensemble, rates: Rates, made: Sequence[Composition], cells: Sequence[Discharge], held_out: HeldOut
) -> list[HeldOutErrors]:
    """Errors of a child and of its parent with the Gaussian model where both have seen the same.

    Args:
        parent: the ensemble.
        rates: first discharges at these two are compared.
        made: composition of each discharge.
        cells: every discharge that the child learned from.
        held_out: what the child said of them.

    Returns:
        At each rate that something was measured at.
    """
    from screening.goals import Goals, ObjectiveSpec
    from screening.measured import Measured
    from screening.outlook import Outlook
    from screening.quantities import Capacity, MeasuredCells

    goals = Goals(rates, (ObjectiveSpec(quantity="capacity"),), ())
    found: dict[float, list[tuple[float, float]]] = {}
    for fold in sorted(set(held_out.fold.tolist()) - {-1}):
        seen: dict[Composition, list[Discharge]] = {}
        for i in np.flatnonzero(held_out.fold != fold).tolist():
            seen.setdefault(made[i], []).append(cells[i])
        known = [Measured.of_cells(MeasuredCells(c, tuple(ds)), goals.quantities) for c, ds in seen.items()]
        asked = [
            (i, at)
            for i in np.flatnonzero(held_out.fold == fold).tolist()
            for at in (rates.low, rates.high)
            if same_conditions(cells[i].conditions, at)
        ]
        if not asked:
            continue
        outlook = Outlook.of(parent, goals, measured=[m for m in known if m.estimates])
        mean, _ = outlook.surrogate.marginals(outlook.read([made[i] for i, _ in asked]))
        for row, (i, at) in enumerate(asked):
            said = (float(held_out.capacity_mah_g[i]), float(mean[row, goals.column(Capacity(at))]))
            errors = (abs(cells[i].capacity_mah_g - said[0]), abs(cells[i].capacity_mah_g - said[1]))
            found.setdefault(at.current_ma_g, []).append(errors)
    return [HeldOutErrors(current, *np.array(errors).T) for current, errors in sorted(found.items())]


def _record(entry: Entry, child: FineTuned, lesson: _Lesson) -> str:
    """Record what came of a fine-tuning, and say it."""
    card, lost = child.ensemble.card, lesson.lost
    files = as_files(child.ensemble.network.state_dict(), card) if child.accepted else None
    model_id = files.sha256[:12] if files else REFUSED
    if lost and files and model_id == lost.model_id:
        entry.keep_files(files)
        return f"The weights of {lost.name} were gone and are learned again: the same, {model_id}."
    entry.add_model(
        NewModel(
            model_id,
            f"models/{model_id}" if files else "",
            parent=lesson.first.model_id,
            data_fingerprint=lesson.profiles.fingerprint,
            measurement_ids=lesson.ids,
            accepted=child.accepted,
            metrics={**child.report, **lesson.settings, "name": card.name},
            files=files,
        )
    )
    sentence = str(child.report["reason"])
    if not child.accepted and (lost or _learned_from_withdrawn(entry.before)):
        sentence += f" {_start_again(entry, lost)}"
    return sentence


def _back_to_start(campaign: Workspace) -> Learned | None:
    """Leave a model that learned from withdrawn measurements where no other is left to learn from."""
    with campaign.ledger.write("finetune") as entry:
        before = entry.before
        if _learnable(campaign, before, read_card(campaign.model_path(before.first_model))):
            return None
        if not _learned_from_withdrawn(before):
            what = "first discharge" if campaign.spec.fine_tuning.first_cycle_only else "discharge"
            raise UsageError(
                f"Campaign {campaign.name} has no {what} that its model could learn from; ingest some first."
            )
        sentence = entry.summary = _start_again(entry)
    return Learned(False, campaign.state().current_model, 0, None, None, sentence)


def _start_again(entry: Entry, lost: ModelRecord | None = None) -> str:
    """Record that the starting model is in use again, and say why."""
    start = entry.before.first_model
    entry.add_model(NewModel(start.model_id, start.path, metrics=start.metrics))
    why = "had learned from withdrawn measurements" if lost is None else "has lost its weights"
    return f"The model in use {why}; back to the starting model."


def _judged_first(campaign: Workspace, state: Snapshot, ensemble: Ensemble) -> Snapshot:
    """Set what nobody proposed beside the model's own prediction before anything is learned from it."""
    from drxnet.ensemble import mean_and_spread

    tried = {i for m in state.models for i in m.measurement_ids}
    rates = campaign.spec.conditions
    known = set(ensemble.card.elements)
    fresh = [
        m
        for m in _learnable(campaign, state, ensemble.card, say=False)
        if state.by_id[m.proposal_id].prediction is None
        and m.measurement_id not in tried
        and known.issuperset(Composition.parse(m.composition).elements)
    ]
    if not fresh:
        return state
    owners = {m.proposal_id: m.composition for m in fresh}
    expected: dict[str, dict[str, Expected]] = {name: {} for name in owners}
    for rate, at in (("low", rates.low), ("high", rates.high)):
        q = ensemble.predict(list(owners.values()), [at] * len(owners), [[at.v_low]] * len(owners))[..., 0]
        for name, mean, std in zip(owners, *mean_and_spread(q), strict=True):
            expected[name][rate] = Expected(float(mean), math.hypot(float(std), MODEL_ERROR_MAH_G))
    names = {m.measurement_id for m in fresh}
    discharges = [replace(d, fresh=True) if d.key in names else d for d in weighed_standing(state)]
    found = judge(discharges, rates, expected)
    doubts = {key: said for key, said in found.doubts.items() if key in names}
    if not doubts:
        return state
    with campaign.ledger.write("judge") as entry:
        standing = {m.measurement_id for m in entry.before.valid}
        for key, (rule, reason) in doubts.items():
            if key in standing:
                entry.judge(str(key), DOUBTFUL, rule, reason)
                _log.warning("%s is doubtful and not learned from: %s.", key, reason)
        entry.summary = f"{', '.join(map(str, doubts))}: doubtful beside what the model predicts"
    return campaign.state()


def _of_finite_error(
    ensemble: Ensemble, measured: Sequence[MeasuredProfile]
) -> tuple[list[MeasuredProfile], list[Measurement]]:
    """Measurements whose error is a number, and those of which no model can say how wrong it is."""
    if not measured:
        return [], []
    conditions = [m.measurement.conditions for m in measured]
    compositions = [m.measurement.composition for m in measured]
    q = ensemble.predict(compositions, conditions, [[c.v_low] for c in conditions])[..., 0]
    finite = q.isfinite().all(0).tolist()
    kept = [m for m, good in zip(measured, finite, strict=True) if good]
    return kept, [m.measurement for m, good in zip(measured, finite, strict=True) if not good]


def _said_to_be_left_out(campaign: Workspace, state: Snapshot, without: Sequence[Measurement]) -> str:
    """Name the measurements that the gate leaves out because no held-out error can be formed of them."""
    named = [f"{m.measurement_id} ({m.conditions}: {m.capacity_mah_g:.4g} mAh/g)" for m in without]
    named += [f"{m.measurement_id} ({fault})" for m, fault in _impossible(campaign, state)]
    if not named:
        return ""
    return (
        f"Left out, as no finite held-out error can be formed: {'; '.join(named)}. Correct or retract what is wrong: "
        "drx-screen supersede, drx-screen retract."
    )


def _impossible(campaign: Workspace, state: Snapshot) -> list[tuple[Measurement, str]]:
    """Valid measurements, recorded by an earlier version, that could not be recorded today, with what is wrong."""
    only_first = campaign.spec.fine_tuning.first_cycle_only
    found = []
    for m in state.valid:
        if (m.conditions.cycle == 1 or not only_first) and (faults := faults_of_numbers(m)):
            found.append((m, faults[0]))
    return found


def profile_set(known: Sequence[MeasuredProfile], state: Snapshot | None = None) -> ProfileSet:
    """Collect measurements as a training set; discharges of one cell belong together.

    Args:
        known: what to learn from.
        state: of the ledger, where the composition as measured may count; by default what was aimed at does.
    """
    from drxnet.dataset import ProfileSet, Record

    records = [
        Record(
            Composition.parse(m.measurement.composition if state is None else _made(state, m.measurement)),
            m.measurement.conditions,
            m.profile,
            m.measurement.capacity_mah_g,
        )
        for m in known
    ]
    return ProfileSet.from_discharges(
        records, cells=[f"{m.measurement.proposal_id} {m.measurement.cell}" for m in known]
    )


def _learnable(campaign: Workspace, state: Snapshot, card: ModelCard | None, *, say: bool = True) -> list[Measurement]:
    """Valid measurements of elements that the model knows."""
    only_first = campaign.spec.fine_tuning.first_cycle_only
    valid = [m for m in state.valid if (m.conditions.cycle == 1 or not only_first) and not faults_of_numbers(m)]
    if card is None:
        return valid
    elements = set(card.elements)
    useful = [m for m in valid if elements.issuperset(Composition.parse(m.composition).elements)]
    if say and len(useful) < len(valid):
        _log.warning("%d discharges hold elements that the model has never seen; left out.", len(valid) - len(useful))
    return useful


def _made(state: Snapshot, measurement: Measurement) -> str:
    """Composition that the model is told was measured."""
    if not state.as_analysed:
        return measurement.composition
    return state.analysed.get(measurement.proposal_id, measurement.composition)


def waiting_to_be_learned(campaign: Workspace, state: Snapshot) -> tuple[Measurement, ...]:
    """Measurements that the model could learn from and that no fine-tuning has tried."""
    try:
        card = read_card(campaign.model_path(state.first_model))
    except (DRXError, OSError):
        card = None  # it is gone; that is said where it is needed
    useful = {m.measurement_id for m in _learnable(campaign, state, card, say=False)}
    return tuple(m for m in state.unlearned if m.measurement_id in useful)


def _as_before(state: Snapshot, earlier: ModelRecord) -> Learned:
    verdict = "in use" if earlier.accepted else "refused by the gate"
    return Learned(
        earlier.accepted,
        state.current_model,
        len(earlier.measurement_ids),
        earlier.metrics.get("error_before_mah_g"),
        earlier.metrics.get("error_after_mah_g"),
        f"Nothing new to learn from: {earlier.name} was fine-tuned on the same measurements, with the same options, "
        f"and is {verdict}.",
    )


def _learned_from_withdrawn(state: Snapshot) -> bool:
    valid = {m.measurement_id for m in state.valid}
    return not valid.issuperset(state.current_model.measurement_ids)


def _options(kind: type[Any], given: Mapping[str, Any]) -> Any:
    known = list(kind.__dataclass_fields__)
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ConfigurationError(f"fine_tuning.options: unknown key {', '.join(unknown)}. Known: {', '.join(known)}.")
    return kind(**given)


def _compared(known: Sequence[MeasuredProfile], before: Ensemble, after: Ensemble) -> list[dict[str, Any]]:
    """Set every discharge beside the mean and spread (ddof 0) over the members of two models."""
    from drxnet.ensemble import mean_and_spread

    compositions = [m.measurement.composition for m in known]
    conditions = [m.measurement.conditions for m in known]
    cutoffs = [[c.v_low] for c in conditions]
    said = [mean_and_spread(model.predict(compositions, conditions, cutoffs)[..., 0]) for model in (before, after)]
    (mean_0, std_0), (mean_1, std_1) = said
    return [
        {
            "measurement_id": m.measurement.measurement_id,
            "proposal_id": m.measurement.proposal_id,
            "composition": m.measurement.composition,
            "current_ma_g": m.measurement.conditions.current_ma_g,
            "cycle": m.measurement.conditions.cycle,
            "capacity_mah_g": m.measurement.capacity_mah_g,
            "before_mah_g_mean": float(mean_0[i]),
            "before_mah_g_std": float(std_0[i]),
            "after_mah_g_mean": float(mean_1[i]),
            "after_mah_g_std": float(std_1[i]),
        }
        for i, m in enumerate(known)
    ]
