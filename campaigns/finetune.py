"""Let the model of a campaign learn from what came back.

Every time, the ensemble that the campaign started with is fine-tuned on all valid measurements: a retracted one is
forgotten, and errors do not build up from round to round. A gate decides whether the child is used.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from campaigns.campaign import Campaign
from campaigns.ledger import NewModel
from campaigns.records import MeasuredProfile, ModelRecord, Snapshot
from drxnet.composition import Composition
from drxnet.errors import UsageError
from drxnet.progress import Progress, silent

if TYPE_CHECKING:
    from drxnet.dataset import ProfileSet
    from drxnet.ensemble import Ensemble

_log = logging.getLogger(__name__)

REFUSED = "refused"
"""Stands in the ledger for the model id of a child that the gate refused; its weights are not kept."""


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


def fine_tune_campaign(campaign: Campaign, *, device: str = "cpu", progress: Progress = silent) -> Learned:
    """Fine-tune the starting model on every valid measurement and record what came of it.

    Args:
        campaign: whose measurements.
        device: to train on.
        progress: told of steps.

    Raises:
        UsageError: nothing was measured yet that the model could learn from.
    """
    from drxnet.finetuning import FineTuningOptions, fine_tune

    state = campaign.state()
    first = campaign.ensemble(state.first_model, device=device)
    known = _learnable(campaign, state, first)
    ids = tuple(m.measurement.measurement_id for m in known)
    profiles = profile_set(known)
    if (earlier := _tried_before(state, ids, profiles.fingerprint)) is not None:
        return _as_before(state, earlier)
    child = fine_tune(
        first,
        profiles,
        seed=campaign.spec.seed,
        options=_options(FineTuningOptions, campaign.spec.fine_tuning.options),
        name=f"{campaign.name}-{len(state.models) + 1}",
        progress=progress,
    )
    current = campaign.ensemble(state.current_model, device=device)
    model_id, path = _save(campaign, child.ensemble) if child.accepted else (REFUSED, "")
    sentence = str(child.report["reason"])
    with campaign.ledger.write("finetune") as entry:
        entry.add_model(
            NewModel(
                model_id,
                path,
                parent=first.model_id,
                data_fingerprint=profiles.fingerprint,
                measurement_ids=ids,
                accepted=child.accepted,
                metrics={**child.report, "name": child.ensemble.card.name},
            )
        )
        if not child.accepted and _learned_from_withdrawn(entry.before):
            start = entry.before.first_model
            entry.add_model(NewModel(start.model_id, start.path, metrics=start.metrics))
            sentence += " The model in use had learned from withdrawn measurements; back to the starting model."
        entry.summary = sentence
    after = child.ensemble if child.accepted else current
    return Learned(
        child.accepted,
        campaign.state().current_model,
        len(known),
        child.report.get("error_before_mah_g"),
        child.report.get("error_after_mah_g"),
        sentence,
        _compared(known, current, after),
    )


def profile_set(known: Sequence[MeasuredProfile]) -> ProfileSet:
    """Collect measurements as a training set; discharges of one cell belong together."""
    from drxnet.dataset import ProfileSet, Record

    records = [
        Record(
            Composition.parse(m.measurement.composition),
            m.measurement.conditions,
            m.profile,
            m.measurement.capacity_mah_g,
        )
        for m in known
    ]
    return ProfileSet.from_discharges(
        records, cells=[f"{m.measurement.proposal_id} {m.measurement.cell}" for m in known]
    )


def _learnable(campaign: Campaign, state: Snapshot, model: Ensemble) -> tuple[MeasuredProfile, ...]:
    """Valid measurements of elements that the model knows."""
    only_first = campaign.spec.fine_tuning.first_cycle_only
    valid = [m for m in state.valid if m.conditions.cycle == 1 or not only_first]
    elements = set(model.card.elements)
    useful = [m for m in valid if elements.issuperset(Composition.parse(m.composition).elements)]
    if len(useful) < len(valid):
        _log.warning("%d discharges hold elements that the model has never seen; left out.", len(valid) - len(useful))
    if not useful:
        what = "first discharge" if only_first else "discharge"
        raise UsageError(f"Campaign {campaign.name} has no {what} that its model could learn from; ingest some first.")
    return campaign.ledger.profiles(useful)


def _tried_before(state: Snapshot, ids: tuple[str, ...], fingerprint: str) -> ModelRecord | None:
    """The last attempt, when it was on the same data."""
    attempts = [m for m in state.models if m.data_fingerprint is not None]
    if attempts and (attempts[-1].measurement_ids, attempts[-1].data_fingerprint) == (ids, fingerprint):
        return attempts[-1]
    return None


def _as_before(state: Snapshot, earlier: ModelRecord) -> Learned:
    verdict = "in use" if earlier.accepted else "refused by the gate"
    return Learned(
        earlier.accepted,
        state.current_model,
        len(earlier.measurement_ids),
        earlier.metrics.get("error_before_mah_g"),
        earlier.metrics.get("error_after_mah_g"),
        f"Nothing new to learn from: {earlier.name} was fine-tuned on the same measurements and is {verdict}.",
    )


def _learned_from_withdrawn(state: Snapshot) -> bool:
    valid = {m.measurement_id for m in state.valid}
    return not valid.issuperset(state.current_model.measurement_ids)


def _options(kind: type[Any], given: Mapping[str, Any]) -> Any:
    from drxnet.errors import ConfigurationError

    known = list(kind.__dataclass_fields__)
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ConfigurationError(f"fine_tuning.options: unknown key {', '.join(unknown)}. Known: {', '.join(known)}.")
    return kind(**given)


def _save(campaign: Campaign, ensemble: Ensemble) -> tuple[str, str]:
    """Write a model under its id; the same weights end in the same folder, however often this is done."""
    from drxnet.checkpoint import save

    models = campaign.folder / "models"
    models.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=models) as scratch:
        card = save(Path(scratch) / "model", ensemble.network.state_dict(), ensemble.card)
        target = models / card.model_id
        if not target.is_dir():
            (Path(scratch) / "model").rename(target)
    return card.model_id, f"models/{card.model_id}"


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
