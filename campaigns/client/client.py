"""The verbs of a campaign over HTTP, with the rows, values and errors that the same verbs give on a folder."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

from campaigns.client.connection import Connection
from campaigns.errors import Unreachable
from campaigns.ledger.entry import user_and_host
from campaigns.ledger.records import ModelRecord, Prediction, Proposal, State
from drxnet.composition import Composition
from drxnet.errors import DRXError, DRXWarning, UsageError
from drxnet.files import replace_file
from drxnet.process import NOT_STATED, Process
from drxnet.progress import Progress, silent
from drxnet.text import table_text

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


PAGE = 1000
"""Rows asked for at a time."""

MOST_ROWS = 100_000
"""Of a ranking that is asked for as a whole."""


class OnServer(UsageError, AttributeError):
    """What lies on the machine of the server, and is shown from there."""


class Client:
    """A campaign that a server holds. The verbs are those of :class:`campaigns.campaign.Campaign`."""

    def __init__(
        self,
        source: str,
        *,
        command: str = "python",
        read_only: bool | None = None,
        token: str | None = None,
        who: str | None = None,
    ) -> None:
        """Connect with a server.

        Args:
            source: address of the campaign, such as ``http://host:8000/he-rate``.
            command: not told; the log says that the server was asked.
            read_only: refuse to write, whatever the server allows.
            token: that the server asks for; by default as in the address, else ``$DRX_SCREEN_TOKEN``.
            who: what the log says who did it; by default user and host.

        Raises:
            UsageError: no server answers, it does not serve this campaign, or it asks for its token.
        """
        self._connection = Connection(source, who=who or user_and_host(), token=token)
        self._seen: dict[str, str] = {}
        self.read_only = bool(read_only) or bool(self._connection.get()["read_only"])

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
        """Choose and record the next round; see :meth:`campaigns.campaign.Campaign.recommend`."""
        from campaigns.report.rows import Batch

        _refuse_cluster(ray_address)
        listed = None if candidates is None else table_text(Path(candidates))
        options = {
            "batch_size": batch_size,
            "candidates_csv": listed,
            "strategy": strategy,
            "seed": seed,
            "workers": workers,
            "device": device,
            "engine": engine,
            "method": method,
            "evaluations": evaluations,
            "time_limit_s": time_limit_s,
            "dry_run": dry_run,
        }
        chosen = self._connection.job("propose", options, progress)
        return Batch(_proposal(row) for row in chosen["records"])

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
        """Say what became of proposals; see :meth:`campaigns.campaign.Campaign.mark`."""
        names = [proposal_ids] if isinstance(proposal_ids, str) else list(proposal_ids)
        listed = phases if phases is None or isinstance(phases, str) else _phases(phases)
        said = self._write(
            "/mark",
            {
                "proposal_ids": names,
                "state": None if state is None else str(state),
                "reason": reason,
                "phases": listed,
                "single_phase": single_phase,
                "icp": icp,
            },
            names,
        )
        return tuple(said.get("changed", names))

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
        """Check returned files and record the good ones; see :meth:`campaigns.campaign.Campaign.ingest`."""
        from campaigns.intake.files import listed_files

        given = [files] if isinstance(files, str | Path) else files
        paths = listed_files([Path(file) for file in given], samples)
        fields = _fields(sample, options) | {"all_or_nothing": all_or_nothing, "dry_run": dry_run}
        parts = [("files", path) for path in paths]
        done = self._upload([*parts, *([("samples", Path(samples))] if samples else [])], fields, paths)
        progress(len(paths), len(paths))
        if fine_tune:
            self._learn_from(done.measurements)
        return done

    def _upload(self, parts: Sequence[tuple[str, Path]], fields: Mapping[str, Any], paths: Sequence[Path]) -> Ingested:
        if not fields["dry_run"]:
            self._refuse_if_read_only()
        said = self._connection.upload("/files", parts, fields)
        if "record" not in said:  # carried out before the server was started anew: they are known there now
            said = self._connection.upload("/files", parts, {**fields, "dry_run": True})
        return _ingested(said["record"], paths)

    def add_measurements(
        self,
        measurements: Mapping[str, Any] | str | Path | Iterable[Mapping[str, Any]] | Any,
        *,
        fine_tune: bool = True,
        confirmed: bool = False,
        progress: Progress = silent,
    ) -> tuple[str, ...]:
        """Record measured discharges; see :meth:`campaigns.campaign.Campaign.add_measurements`."""
        from campaigns.intake.rows import rows_or_files

        listed, are_files = rows_or_files(measurements)
        ids: tuple[str, ...]
        if are_files:
            ids = self.ingest(listed, all_or_nothing=True, fine_tune=False).all_recorded()
        else:
            rows = [{k: v for k, raw in row.items() if (v := _plain(raw)) is not None} for row in listed]
            ids = tuple(self._write("/measurements", {"measurements": rows, "confirmed": confirmed})["measurements"])
        if fine_tune:
            self._learn_from(ids, progress)
        return ids

    def update_measurement(self, measurement_id: str, reason: str, **changes: Any) -> str:
        """Supersede a measurement; see :meth:`campaigns.campaign.Campaign.update_measurement`."""
        new = {k: v for k, raw in changes.items() if (v := _plain(raw)) is not None}
        (successor,) = self._of_measurement(measurement_id, "supersede", {"reason": reason, "changes": new})
        return successor

    def retract_measurement(self, name: str, reason: str) -> tuple[str, ...]:
        """Stop counting a measurement; see :meth:`campaigns.campaign.Campaign.retract_measurement`."""
        return self._of_measurement(name, "retract", {"reason": reason})

    def confirm_measurement(self, name: str, reason: str = "") -> tuple[str, ...]:
        """Say that a doubtful one is right; see :meth:`campaigns.campaign.Campaign.confirm_measurement`."""
        return self._of_measurement(name, "confirm", {"reason": reason})

    def fine_tune(self, *, device: str = "cpu", progress: Progress = silent) -> Learned:
        """Learn from every valid measurement; see :meth:`campaigns.campaign.Campaign.fine_tune`."""
        from campaigns.loop.finetune import Learned

        said = self._connection.job("finetune", {"device": device}, progress)
        names = ("accepted", "measurements", "error_before_mah_g", "error_after_mah_g", "sentence", "predicted")
        record = said["record"] | {"measurement_ids": tuple(said["record"]["measurement_ids"])}
        return Learned(model=ModelRecord(**record), **{name: said[name] for name in names})

    # -- looking -----------------------------------------------------------------------------------------

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
        """Rank measured and predicted compositions together; see :meth:`campaigns.campaign.Campaign.rank`."""
        from campaigns.report.rows import Rows

        _refuse_cluster(ray_address)
        if proof is not None:
            raise UsageError("A proof is written and checked where the campaign lies. Leave out proof here.")
        asked = {
            "by": by,
            "top": MOST_ROWS if top is None and within != "space" else top,
            "min_capacity_mah_g": min_capacity_mah_g,
            "current_ma_g": current_ma_g,
            "cycle": cycle,
            "order": order,
            "as_of": as_of,
        }
        if within == "measured":
            return Rows(self._connection.get("/rank", **asked)["rows"])
        how = {"within": within, "device": device, "engine": engine, "workers": workers}
        return Rows(self._connection.job("rank", asked | how, progress)["rows"])

    def summarize(self, as_of: int | None = None) -> dict[str, Any]:
        """Say where the campaign stands; see :meth:`campaigns.campaign.Campaign.summarize`."""
        return dict(self._connection.get("/status", as_of=as_of))

    def proposals(self, *states: str, round: int | None = None) -> Rows:
        """List proposals with state, prediction and version.

        Args:
            *states: of which states, such as ``proposed``; all by default.
            round: of one round.
        """
        from campaigns.report.rows import Rows

        found = Rows()
        while True:
            page = self._connection.get("/proposals", state=list(states), round=round, offset=len(found), limit=PAGE)
            found += page["rows"]
            if len(found) >= page["total"] or not page["rows"]:
                return found

    def show(self, proposal_id: str) -> dict[str, Any]:
        """Give everything that is known of a proposal, and remember it as seen.

        From now on what this object writes about it goes through only if nobody changed it meanwhile
        (:class:`campaigns.errors.Stale`).

        Args:
            proposal_id: such as ``R01-03``.

        Raises:
            UsageError: there is none.
        """
        row = dict(self._connection.get(f"/proposals/{_part(proposal_id)}"))
        self._seen[row["proposal_id"]] = row["version"]
        return row

    def report(
        self,
        folder: str | Path | None = None,
        *,
        as_of: int | None = None,
        proposals: Sequence[str] = (),
        progress: Progress = silent,
    ) -> Report:
        """Have the report written and bring it here, by default to ``./NAME-report``.

        See :meth:`campaigns.campaign.Campaign.report`.
        """
        from campaigns.report.write import Report

        said = self._connection.job("report", {"as_of": as_of, "proposals": list(proposals)}, progress)
        target = Path(f"{self.name}-report" if folder is None else folder)
        target.mkdir(parents=True, exist_ok=True)
        for name in (said["page"], *said["figures"]):
            replace_file(target / Path(name).name, self._connection.fetch(f"/report/{_part(name)}")[0])
        return Report(target / said["page"], tuple(target / name for name in said["figures"]))

    def export(
        self,
        target: str | Path,
        *,
        form: Form | None = None,
        withdrawn: bool = False,
        as_of: int | None = None,
        verbatim: bool = False,
    ) -> int:
        """Write what was measured to a file here; see :meth:`campaigns.campaign.Campaign.export`."""
        from campaigns.report.export import form_of

        asked = form_of(Path(target), form)
        content, headers = self._connection.fetch(
            "/export", form=asked, withdrawn=withdrawn, as_of=as_of, verbatim=verbatim
        )
        replace_file(Path(target), content)
        return int(headers["x-discharges"])

    # -- the campaign itself -----------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Name of the campaign."""
        return self._connection.name

    def close(self) -> None:
        """Give back the connections."""
        self._connection.close()

    def state(self, as_of: int | None = None) -> NoReturn:
        """Not from here: see `summarize`, `rank` and `show`."""
        raise self._on_server("state()")

    def goals(self, state: Any, as_of: int | None = None) -> NoReturn:
        """Not from here."""
        raise self._on_server("goals()")

    def model_path(self, model: Any) -> NoReturn:
        """Not from here."""
        raise self._on_server("model_path()")

    def ensemble(self, model: Any = None, *, device: str = "cpu") -> NoReturn:
        """Not from here."""
        raise self._on_server("ensemble()")

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        raise self._on_server(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        try:
            s = self.summarize()
        except DRXError as error:
            return f"<Campaign {self.name}: {error}>"
        stands = ", ".join(f"{number} {state}" for state, number in s["proposals"].items() if number)
        count = sum(s["proposals"].values())
        proposals = f"{count} proposals ({stands})" if stands else "nothing proposed"
        return (
            f"<Campaign {self.name}: round {s['round']}, {proposals}, {s['measurements']} discharges, "
            f"model {s['model']['name']}; {self._connection.address}>"
        )

    # -- how ---------------------------------------------------------------------------------------------

    def _on_server(self, name: str) -> OnServer:
        return OnServer(
            f"{name} of {self.name} lies on the machine of the server at {self._connection.server}. From here: "
            "summarize(), rank(), show(), export()."
        )

    def _refuse_if_read_only(self) -> None:
        if self.read_only:
            from campaigns.errors import ReadOnly

            raise ReadOnly("This server only shows (--read-only); nothing was written.")

    def _write(self, path: str, content: Mapping[str, Any], about: Sequence[str] = ()) -> dict[str, Any]:
        """Write, with what was seen of the proposals that it is about; that is forgotten by having been written on."""
        self._refuse_if_read_only()
        seen = {name: self._seen[name] for raw in about if (name := raw.upper()) in self._seen}
        said = self._connection.send(path, {**content, **({"seen": seen} if seen else {})})
        for name in seen:
            del self._seen[name]
        return said

    def _of_measurement(self, name: str, verb: str, content: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(self._write(f"/measurements/{_part(name)}/{verb}", content).get("measurements", (name,)))

    def _learn_from(self, measurement_ids: Sequence[str], progress: Progress = silent) -> None:
        if not measurement_ids:
            return
        try:
            self.fine_tune(progress=progress)
        except Unreachable:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the ids of what is recorded come back
            ids = ", ".join(measurement_ids)
            warnings.warn(f"Recorded {ids}, but not learned from: {error}", DRXWarning, stacklevel=3)


def _part(name: str) -> str:
    from urllib.parse import quote

    return quote(name, safe="")


def _refuse_cluster(ray_address: str | None) -> None:
    if ray_address is not None:
        raise UsageError(
            "A Ray cluster is named where the computing is done. Leave out ray_address; the server computes."
        )


def _phases(found: Mapping[str, float | None]) -> str:
    return ", ".join(name if share is None else f"{name} {share:g}" for name, share in found.items())


def _plain(value: Any) -> Any:
    """A value of a row as JSON has it; None for one that is missing."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Composition):
        return value.formula
    if isinstance(value, float) and math.isnan(value):
        return None
    return list(value) if isinstance(value, tuple) else value


def _fields(sample: SampleInfo | None, options: ReadOptions | None) -> dict[str, Any]:
    """What is said of files, as fields of a form."""
    fields: dict[str, Any] = {} if options is None else dict(vars(options))
    if sample is None:
        return fields
    said = dict(vars(sample))
    fields["v_low"], fields["v_high"] = said.pop("window") or (None, None)
    process: Process | None = said.pop("process")
    fields["process"] = ", ".join(f"{name}={value}" for name, value in (process or NOT_STATED).stated) or None
    return fields | {name: _plain(value) for name, value in said.items()}


def _proposal(row: Mapping[str, Any]) -> Proposal:
    said = row["prediction"]
    prediction = None if said is None else Prediction.of(said)
    process = Process.of(dict(row["process"]["stated"]))
    return Proposal(**{**row, "state": State(row["state"]), "prediction": prediction, "process": process})


def _ingested(record: Mapping[str, Any], paths: Sequence[Path]) -> Ingested:
    """What became of files, under the names that they have here."""
    from campaigns.intake.ingested import FileOutcome, Ingested, Returned
    from campaigns.intake.measurement import RuleHit

    outcomes = []
    for path, file in zip(paths, record["files"], strict=True):
        lists = {name: tuple(file[name]) for name in ("notes", "proposals", "measurements", "doubtful")}
        rules = tuple(RuleHit(**rule) for rule in file["rules"])
        outcomes.append(replace(FileOutcome(**{**file, **lists, "rules": rules}), name=str(path)))
    return Ingested(tuple(outcomes), tuple(Returned(**c) for c in record["comparisons"]), tuple(record["judged_again"]))
