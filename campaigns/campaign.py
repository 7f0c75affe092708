"""The face of a campaign: what users, the command line and nobody else call."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from campaigns.ledger.records import Proposal
from campaigns.workspace import Workspace
from drxnet.errors import DRXWarning
from drxnet.progress import Progress, silent

_log = logging.getLogger(__name__)


class Campaign(Workspace):
    """One search with one laboratory: an opened campaign and the verbs on it."""

    def recommend(self, batch_size: int | None = None, **options: Any) -> tuple[Proposal, ...]:
        """Choose and record the next round; compositions that are pending or measured are not proposed again.

        Args:
            batch_size: how many; by default as the YAML says.
            **options: of :func:`campaigns.loop.propose.propose`.

        Raises:
            NothingToPropose: every candidate is measured, pending or excluded.
        """
        from campaigns.loop.propose import propose

        return propose(self, batch_size=batch_size, **options).proposals

    def add_measurements(
        self, measurements: Iterable[Mapping[str, Any]] | Any, *, fine_tune: bool = True, progress: Progress = silent
    ) -> tuple[str, ...]:
        """Record measured discharges and learn from them.

        Args:
            measurements: paths of files, rows of a mapping each, or a data frame. Keys of rows: ``proposal_id`` or
                ``composition``, ``current_ma_g``, ``capacity_mah_g``; optionally ``v_low``, ``v_high`` (by default the
                campaign's window), ``cycle``, ``cell``, ``sigma_mah_g``, and the profile as ``voltage_v`` with
                ``profile_mah_g``.
            fine_tune: whether the model learns from them at once.
            progress: of the fine-tuning.

        Returns:
            Ids of the measurements. They are recorded even where the fine-tuning fails, which is a warning.

        Raises:
            DataRefused: a row or a file cannot be trusted; nothing was recorded.
        """
        from campaigns.intake.ingest import record_paths, record_rows

        listed: Any = measurements if hasattr(measurements, "to_dict") else list(measurements)
        paths = [Path(m) for m in listed if isinstance(m, str | Path)] if isinstance(listed, list) else []
        ids = record_paths(self, paths) if paths and len(paths) == len(listed) else record_rows(self, listed)
        if fine_tune and ids:
            try:
                self.fine_tune(progress=progress)
            except Exception as error:  # noqa: BLE001 - whatever it is, the ids of what is recorded come back
                _log.debug("fine-tuning failed", exc_info=True)
                warnings.warn(f"Recorded {', '.join(ids)}, but not learned from: {error}", DRXWarning, stacklevel=2)
        return ids

    def update_measurement(self, measurement_id: str, reason: str, **changes: Any) -> str:
        """Supersede a measurement by a corrected one; the old one stays in the ledger.

        Args:
            measurement_id: such as ``M0007``.
            reason: why.
            **changes: keys of :meth:`add_measurements` that are different now.

        Returns:
            Id of the new measurement.

        Raises:
            UsageError: unknown or superseded already.
            DataRefused: the new values cannot be trusted.
        """
        from campaigns.intake.ingest import supersede

        (successor,) = supersede(self, [measurement_id], reason, changes)
        return successor

    def retract_measurement(self, measurement_id: str, reason: str) -> None:
        """Stop counting a measurement; it stays in the ledger with the reason.

        Raises:
            UsageError: unknown, withdrawn already, or no reason.
        """
        with self.ledger.write("retract") as entry:
            entry.withdraw(measurement_id, reason)
            entry.summary = f"{measurement_id.upper()}: {reason}"

    def fine_tune(self, **options: Any) -> Any:
        """Learn from every valid measurement; see :func:`campaigns.loop.finetune.fine_tune_campaign`."""
        from campaigns.loop.finetune import fine_tune_campaign

        return fine_tune_campaign(self, **options)

    def rank(self, by: str = "rate-retention", **options: Any) -> list[dict[str, Any]]:
        """Rank measured and predicted compositions together; see :func:`campaigns.loop.rank.rank`."""
        from campaigns.loop.rank import rank

        return rank(self, by=by, **options).rows

    def summarize(self, as_of: int | None = None) -> dict[str, Any]:
        """Say where the campaign stands, with the keys of ``drx-screen status --format json``."""
        from campaigns.loop.rank import summarize

        return summarize(self, as_of)
