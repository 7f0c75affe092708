"""The face of a campaign: what users, the command line and nobody else call."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from campaigns.client.client import Client
from campaigns.client.connection import is_address
from campaigns.ledger.records import State
from campaigns.workspace import Workspace
from drxnet.errors import DRXError, DRXWarning
from drxnet.progress import Progress, silent

if TYPE_CHECKING:
    from campaigns.intake.ingested import Ingested
    from campaigns.intake.measurement import SampleInfo
    from campaigns.intake.readers.recording import ReadOptions
    from campaigns.loop.finetune import Learned
    from campaigns.loop.places import Order, Within
    from campaigns.report.export import Form
    from campaigns.report.rows import Batch, Rows
    from campaigns.report.write import Report
    from campaigns.spec import Method

_log = logging.getLogger(__name__)


class Campaign(Workspace):
    """One search with one laboratory: an opened campaign and the verbs on it.

    ``Campaign("http://host:8000/he-rate")`` is one that `drx-screen serve` holds on another machine: the same verbs,
    rows and errors (:class:`campaigns.client.client.Client`; options ``token`` and ``who``).
    """

    def __new__(cls, source: str | Path = "", **_: Any) -> Self:
        """Make what the verbs are called on, here or at a server."""
        return object.__new__(ServedCampaign if is_address(source) else cls)  # type: ignore[return-value]

    # -- proposing ---------------------------------------------------------------------------------------

    def recommend(
        self,
        batch_size: int | None = None,
        *,
        candidates: Path | None = None,
        strategy: str | None = None,
        seed: int | None = None,
        workers: int | None = None,
        ray_address: str | None = None,
        device: str = "cpu",
        engine: str = "auto",
        method: Method | None = None,
        evaluations: int | None = None,
        time_limit_s: float | None = None,
        dry_run: bool = False,
        progress: Progress = silent,
    ) -> Batch:
        """Choose and record the next round; compositions that are pending or measured are not proposed again.

        What is not given is as the campaign's YAML says.

        Args:
            batch_size: how many.
            candidates: CSV to choose from instead of the space.
            strategy: how to choose.
            seed: with the ledger's state, decides the batch.
            workers: processes that score; 0 for none beside this one.
            ray_address: of a Ray cluster.
            device: of the model: ``auto``, ``cpu`` or ``cuda``.
            engine: what encodes compositions: ``auto``, ``eager``, ``compiled`` or ``fused``.
            method: how to look through the space.
            evaluations: candidates that a search scores.
            time_limit_s: for looking through the space (s).
            dry_run: choose, but record nothing.
            progress: told of candidates.

        Raises:
            NothingToPropose: every candidate is measured, pending or excluded.
        """
        from campaigns.loop.propose import propose
        from campaigns.report.rows import Batch

        chosen = propose(
            self,
            batch_size=batch_size,
            candidates=candidates,
            strategy=strategy,
            seed=seed,
            workers=workers,
            ray_address=ray_address,
            device=device,
            engine=engine,
            method=method,
            evaluations=evaluations,
            time_limit_s=time_limit_s,
            dry_run=dry_run,
            progress=progress,
        )
        return Batch(chosen.proposals)

    def mark(
        self,
        proposal_ids: str | Sequence[str],
        state: State | str | None = None,
        reason: str = "",
        *,
        phases: str | Mapping[str, float | None] | None = None,
        single_phase: bool | None = None,
        icp: str | None = None,
    ) -> tuple[str, ...]:
        """Say what became of proposals, of all of them or of none.

        Args:
            proposal_ids: one, such as ``R01-03``, or several.
            state: ``accepted``, ``failed`` (may be tried again), ``abandoned`` (never) or ``proposed``.
            reason: why; needed for failed and abandoned.
            phases: that were found, such as ``rocksalt 80, Li3NbO4 20`` (%).
            single_phase: whether it is one phase.
            icp: composition as measured.

        Returns:
            Ids of those that changed.

        Raises:
            UsageError: unknown, no such change is possible, or no reason.
        """
        from campaigns.loop.mark import mark
        from campaigns.loop.phases import parse_phases

        names = [proposal_ids] if isinstance(proposal_ids, str) else proposal_ids
        found = parse_phases(phases) if isinstance(phases, str) else phases
        return mark(self, names, state, reason, phases=found, single_phase=single_phase, icp=icp)

    # -- what comes back ---------------------------------------------------------------------------------

    def ingest(
        self,
        files: str | Path | Sequence[str | Path],
        *,
        sample: SampleInfo | None = None,
        samples: Path | None = None,
        options: ReadOptions | None = None,
        all_or_nothing: bool = False,
        dry_run: bool = False,
        fine_tune: bool = True,
        progress: Progress = silent,
    ) -> Ingested:
        """Check returned files, record the good ones, and let the model learn from them.

        Args:
            files: cycler exports, tables, or folders of them.
            sample: what the lab says of all of them: proposal or composition, active mass, current, window, cell.
            samples: CSV with what it says of single files.
            options: what settles a file that is ambiguous.
            all_or_nothing: record none when one is refused.
            dry_run: record nothing, only say what would be.
            fine_tune: whether the model learns from them at once; where that fails it is a warning.
            progress: of the reading.

        Returns:
            What became of each file, with the rules it breaks; refused ones are no error here.

        Raises:
            UsageError: no such file, or a sample names a proposal that does not exist.
        """
        from campaigns.intake.files import check_files
        from campaigns.intake.record import ingest

        listed = [files] if isinstance(files, str | Path) else files
        paths = [Path(file) for file in listed]
        checked = check_files(self, paths, table=samples, otherwise=sample, options=options, progress=progress)
        done = ingest(self, checked, all_or_nothing=all_or_nothing, dry_run=dry_run)
        if fine_tune:
            self._learn_from(done.measurements)
        return done

    def add_measurements(
        self,
        measurements: Mapping[str, Any] | str | Path | Iterable[Mapping[str, Any]] | Any,
        *,
        fine_tune: bool = True,
        confirmed: bool = False,
        progress: Progress = silent,
    ) -> tuple[str, ...]:
        """Record measured discharges and learn from them.

        Args:
            measurements: paths of files, rows of a mapping each (or one of them), or a data frame. Keys of rows:
                ``proposal_id`` or ``composition``, ``current_ma_g``, ``capacity_mah_g``; optionally ``v_low``,
                ``v_high`` (by default the campaign's window), ``cycle``, ``cell``, ``sigma_mah_g``, and the profile as
                ``voltage_v`` with ``profile_mah_g``.
            fine_tune: whether the model learns from them at once.
            confirmed: whether rows are vouched for, so that none is doubted (simulations, data that was checked).
            progress: of the fine-tuning.

        Returns:
            Ids of what is new, doubtful ones too; what is known already adds nothing. They are recorded even where the
            fine-tuning fails, which is a warning.

        Raises:
            DataRefused: a row or a file cannot be trusted; nothing was recorded.
        """
        from campaigns.intake.rows import record_rows, rows_or_files

        listed, are_files = rows_or_files(measurements)
        if are_files:
            ids = self.ingest(listed, all_or_nothing=True, fine_tune=False).all_recorded()
        else:
            ids = record_rows(self, listed, confirmed=confirmed)
        if fine_tune:
            self._learn_from(ids, progress)
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
        from campaigns.intake.correction import supersede

        (successor,) = supersede(self, [measurement_id], reason, changes)
        return successor

    def retract_measurement(self, name: str, reason: str) -> tuple[str, ...]:
        """Stop counting a measurement, or all of a proposal or a file; they stay in the ledger with the reason.

        Args:
            name: such as ``M0007``, ``R01-03`` or ``R01-03_cellA.csv``.
            reason: why.

        Returns:
            Ids of the measurements.

        Raises:
            UsageError: unknown, withdrawn already, or no reason.
        """
        from campaigns.loop.mark import retract

        return retract(self, [name], reason)

    def confirm_measurement(self, name: str, reason: str = "") -> tuple[str, ...]:
        """Say that doubtful measurements are as they should be: they count from now on and are not doubted again.

        Args:
            name: such as ``M0007``, ``R01-03`` or ``R01-03_cellA.csv``.
            reason: why, if there is something to say.

        Returns:
            Ids of the measurements.

        Raises:
            UsageError: unknown, withdrawn, or nothing of it is doubted.
        """
        from campaigns.loop.mark import confirm

        return confirm(self, [name], reason)

    def fine_tune(self, *, device: str = "cpu", progress: Progress = silent) -> Learned:
        """Learn from every valid measurement, if that makes the model better.

        Args:
            device: to train on.
            progress: told of steps.

        Raises:
            UsageError: nothing was measured yet that the model could learn from.
        """
        from campaigns.loop.finetune import fine_tune_campaign

        return fine_tune_campaign(self, device=device, progress=progress)

    # -- looking -----------------------------------------------------------------------------------------

    # as long as its options are many, which are described here alone
    def rank(
        self,
        by: str | None = None,
        *,
        within: Within = "proposed",
        top: int | None = 50,
        min_capacity_mah_g: float | None = None,
        current_ma_g: float | None = None,
        cycle: int | None = None,
        order: Order = "lower",
        as_of: int | None = None,
        device: str = "cpu",
        engine: str = "auto",
        workers: int | None = None,
        ray_address: str | None = None,
        progress: Progress = silent,
        proof: str | Path | None = None,
    ) -> Rows:
        """Rank measured and predicted compositions together, with the keys of ``drx-screen rank --format json``.

        Args:
            by: a quantity, or ``pareto``; by default the first objective.
            within: ``measured``: only what is measured; ``proposed``: every proposal too; ``space``: every candidate.
            top: rows to give back; all when null (of a space, 50).
            min_capacity_mah_g: leave out what delivers less at the low rate.
            current_ma_g: for quantities at one rate; by default the campaign's low one (mA/g).
            cycle: of the quantity; by default 1, of a capacity retention 20.
            order: by the lower bound or by the mean.
            as_of: rank as right after a past round was recorded.
            device: of the model.
            engine: what encodes compositions: ``auto``, ``eager``, ``compiled`` or ``fused``.
            workers: for the space.
            ray_address: of a Ray cluster.
            progress: of the stream.
            proof: file for the proof that nothing better was left out of the space, which is walked whole.

        Raises:
            UsageError: an unknown quantity, one that the campaign's conditions do not give, or a proof of less than
                the space.
        """
        from campaigns.loop.rank import rank
        from campaigns.report import views
        from campaigns.report.rows import Rows

        found = rank(
            self,
            by,
            within=within,
            top=top,
            min_capacity_mah_g=min_capacity_mah_g,
            current_ma_g=current_ma_g,
            cycle=cycle,
            order=order,
            as_of=as_of,
            device=device,
            engine=engine,
            workers=workers,
            ray_address=ray_address,
            progress=progress,
            proof=proof,
        )
        return Rows(views.ranking(found)["rows"])

    def summarize(self, as_of: int | None = None) -> dict[str, Any]:
        """Say where the campaign stands, with the keys of ``drx-screen status --format json``."""
        from campaigns.report.views import status

        return status(self, as_of)

    def report(
        self,
        folder: str | Path | None = None,
        *,
        as_of: int | None = None,
        proposals: Sequence[str] = (),
        progress: Progress = silent,
    ) -> Report:
        """Write the campaign's report: one HTML page that needs no network, and figures as PNG.

        Args:
            folder: to write to; by default ``report`` in the campaign's folder.
            as_of: report the state right after this round was recorded.
            proposals: ids whose profiles are drawn as PNG; the page holds all.
            progress: told of figures.

        Raises:
            UsageError: no such round or proposal.
        """
        from campaigns.report.write import write_report

        goals = self.goals(self.state(as_of), as_of)
        target = self.folder / "report" if folder is None else Path(folder)
        return write_report(self.ledger, goals, target, as_of=as_of, proposals=proposals, progress=progress)

    def export(
        self,
        target: str | Path,
        *,
        form: Form | None = None,
        withdrawn: bool = False,
        as_of: int | None = None,
        verbatim: bool = False,
    ) -> int:
        """Write what was measured to a file.

        Args:
            target: file to write.
            form: ``csv``, one row per discharge; ``json``, everything with profiles; ``drx-td``, the csv that DRXNet
                is trained on; ``bdf``, a zip of Battery Data Format files; ``ro-crate``, a zip that describes itself.
                By default from the name of the file.
            withdrawn: with measurements that no longer count (not in ``drx-td``).
            as_of: as right after a round was recorded.
            verbatim: leave text as it is; else csv gets an apostrophe before what a spreadsheet takes for a formula.

        Returns:
            Discharges written.

        Raises:
            UsageError: the form is neither given nor told by the name, or there is nothing to write.
        """
        from campaigns.report.export import export_campaign

        return export_campaign(self, Path(target), form=form, withdrawn=withdrawn, as_of=as_of, verbatim=verbatim)

    def __repr__(self) -> str:
        try:
            state = self.state()
        except DRXError as error:
            return f"<Campaign {self.name}: {error}>"
        stands = ", ".join(
            f"{number} {one}" for one in State if (number := sum(p.state is one for p in state.proposals))
        )
        proposals = f"{len(state.proposals)} proposals ({stands})" if stands else "nothing proposed"
        return (
            f"<Campaign {self.name}: round {state.round}, {proposals}, {len(state.valid)} discharges, "
            f"model {state.current_model.name}; {self.folder}>"
        )

    def _learn_from(self, measurement_ids: Sequence[str], progress: Progress = silent) -> None:
        """Fine-tune where anything was recorded; what is recorded stands whatever comes of that."""
        if not measurement_ids:
            return
        try:
            self.fine_tune(progress=progress)
        except Exception as error:  # noqa: BLE001 - whatever it is, the ids of what is recorded come back
            _log.debug("fine-tuning failed", exc_info=True)
            ids = ", ".join(measurement_ids)
            warnings.warn(f"Recorded {ids}, but not learned from: {error}", DRXWarning, stacklevel=3)


class ServedCampaign(Client, Campaign):
    """A campaign that a server holds."""
