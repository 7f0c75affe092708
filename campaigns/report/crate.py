"""A campaign as an RO-Crate: one zip that says of itself what it holds, for archives and for other programs.

Quantities name their terms of BattINFO's electrochemistry ontology (w3id.org/emmo/domain/electrochemistry) and, for
the columns of cells, of the Battery Data Format. The ledger itself travels as ``campaign.json``, exactly.
"""

from __future__ import annotations

import io
import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from campaigns.ledger.records import MeasuredProfile, Proposal, Snapshot
from campaigns.report import bdf
from drxnet.errors import DRXError, MissingExtra
from drxnet.files import new_file

if TYPE_CHECKING:
    from rocrate.model.contextentity import ContextEntity
    from rocrate.rocrate import ROCrate

    from campaigns.workspace import Workspace

_ELECTROCHEMISTRY = "https://w3id.org/emmo/domain/electrochemistry#electrochemistry_"
BATTINFO = {
    "SpecificCapacity": f"{_ELECTROCHEMISTRY}1e3dc60d_dd6b_47d6_8161_70004fc5ee30",
    "DischargingCurrent": f"{_ELECTROCHEMISTRY}e4d666ee_d637_45cd_a904_dc33941ead4f",
    "LowerVoltageLimit": f"{_ELECTROCHEMISTRY}534dd59c_904c_45d9_8550_ae9d2eb6bbc9",
    "UpperVoltageLimit": f"{_ELECTROCHEMISTRY}6dcd5baf_58cd_43f5_a692_51508e036c88",
}
"""Preferred label of a term -> its address."""

COIN_CELL = "https://w3id.org/emmo/domain/battery#battery_b7fdab58_6e91_4c84_b097_b06eff86a124"

_SOFTWARE = ("drx-screen", "torch", "botorch", "gpytorch", "numpy", "pymatgen")
_CITED = "https://doi.org/10.1016/j.joule.2024.03.010"


def write_crate(
    campaign: Workspace,
    state: Snapshot,
    measured: Sequence[MeasuredProfile],
    documents: Mapping[str, str],
    target: Path,
) -> int:
    """Write a campaign, or what it was after a round, as a zipped RO-Crate.

    Args:
        campaign: of which.
        state: what is described.
        measured: discharges, those without a profile too.
        documents: content of the files that stand at the top, by name.
        target: zip to write.

    Returns:
        Discharges described.

    Raises:
        MissingExtra: the extra ``exchange`` is not installed.
    """
    crate = _empty(campaign, state, len(measured))
    for name, text in documents.items():
        _file(crate, name, text, {"name": _ABOUT.get(name, name)})
    made_by = _software(crate)
    cards = _model_cards(crate, campaign, state)
    for proposal in _proposals(state, measured):
        _proposal(crate, proposal)
    for cell in bdf.by_cell(measured):
        _cell(crate, cell)
    crate.root_dataset["mentions"] = [*made_by, *cards]
    with new_file(target) as partial:
        crate.write_zip(partial)
    return len(measured)


_ABOUT = {
    "campaign.json": "The whole ledger: events, proposals, predictions, measurements with profiles",
    "measurements.csv": "One row for each discharge",
}


def _empty(campaign: Workspace, state: Snapshot, discharges: int) -> ROCrate:
    try:
        from rocrate.rocrate import ROCrate
    except ImportError:
        raise MissingExtra("An RO-Crate needs the extra `exchange`: pip install 'drx-screen[exchange]'.") from None
    crate = ROCrate()
    rounds = sorted({p.round for p in state.proposals if p.round is not None})
    crate.name = f"Campaign {campaign.name}"
    crate.description = campaign.spec.description or (
        f"Search for disordered-rocksalt cathodes, {len(rounds)} rounds, {discharges} discharges."
    )
    crate.datePublished = datetime.now(UTC)
    crate.root_dataset["citation"] = {"@id": _CITED}
    crate.root_dataset["license"] = "The laboratory's own; ask before use where nothing else is said."
    _entity(crate, _CITED, "ScholarlyArticle", {"name": "Zhong et al., Joule 8 (2024)", "identifier": _CITED})
    return crate


def _file(crate: ROCrate, name: str, text: str, facts: Mapping[str, Any]) -> Any:
    kind = {"csv": "text/csv", "json": "application/json"}[name.rpartition(".")[2]]
    return crate.add_file(io.StringIO(text), name, properties={"encodingFormat": kind, **facts})


def _entity(crate: ROCrate, identifier: str, kind: str, facts: Mapping[str, Any]) -> ContextEntity:
    from rocrate.model.contextentity import ContextEntity

    given = {k: v for k, v in facts.items() if v is not None}
    entity: ContextEntity = crate.add(ContextEntity(crate, identifier, properties={"@type": kind, **given}))
    return entity


def _software(crate: ROCrate) -> list[Any]:
    """Programs that made what is here, with their versions."""
    found = {"Python": platform.python_version()}
    for package in _SOFTWARE:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return [
        _entity(crate, f"#software-{name}", "SoftwareApplication", {"name": name, "softwareVersion": version})
        for name, version in found.items()
    ]


def _model_cards(crate: ROCrate, campaign: Workspace, state: Snapshot) -> list[Any]:
    """Cards of the models that the campaign used; one whose files are lost is named by what the ledger says."""
    from drxnet.checkpoint import CARD

    cards = []
    for model in {m.model_id: m for m in state.models if m.accepted}.values():
        facts = {"name": f"Model {model.model_id}", "identifier": model.model_id, "dateCreated": model.at}
        try:
            text = (campaign.model_path(model) / CARD).read_text(encoding="utf-8")
        except (DRXError, OSError):
            cards.append(_entity(crate, f"#model-{model.model_id}", "CreativeWork", facts))
        else:
            cards.append(_file(crate, f"models/{model.model_id}.json", text, facts))
    return cards


def _proposals(state: Snapshot, measured: Iterable[MeasuredProfile]) -> Iterable[Proposal]:
    made = {m.measurement.proposal_id for m in measured}
    return [p for p in state.proposals if p.round is not None or p.proposal_id in made]


def _proposal(crate: ROCrate, proposal: Proposal) -> None:
    part_of = "unasked, by the laboratory" if proposal.round is None else f"round {proposal.round}"
    facts = {
        "name": f"{proposal.proposal_id}: {proposal.composition}",
        "identifier": proposal.proposal_id,
        "molecularFormula": proposal.composition,
        "description": f"Proposed in {part_of}; {proposal.state.value}" if proposal.round else f"Made {part_of}",
    }
    _entity(crate, _proposal_id(proposal.proposal_id), "ChemicalSubstance", facts)


def _proposal_id(proposal: str) -> str:
    return f"#proposal-{proposal}"


def _cell(crate: ROCrate, cell: Sequence[MeasuredProfile]) -> None:
    """A coin cell: what it is of, what each discharge gave, and its file where there are profiles."""
    first = cell[0].measurement
    discharges = [_discharge(crate, m) for m in cell]
    facts = {
        "name": f"Cell {first.cell} of {first.proposal_id}",
        "additionalType": COIN_CELL,
        "material": {"@id": _proposal_id(first.proposal_id)},
        "additionalProperty": [{"@id": one.id} for found in discharges for one in found],
    }
    if with_profiles := next(iter(bdf.cells_of(cell)), None):
        columns = {"name": facts["name"], "variableMeasured": [_column(crate, label) for label in bdf.TERMS]}
        file = _file(crate, f"cells/{bdf.file_name(with_profiles)}", bdf.table(with_profiles), columns)
        facts["subjectOf"] = {"@id": file.id}
    _entity(crate, f"#cell-{first.measurement_id}", "IndividualProduct", facts)


def _discharge(crate: ROCrate, m: MeasuredProfile) -> list[ContextEntity]:
    """The numbers of one discharge, each with its term and its unit."""
    at, one = m.measurement.conditions, m.measurement
    about = f"Discharge {at.cycle}, {one.measurement_id}"
    values = (
        ("SpecificCapacity", one.capacity_mah_g, "mAh/g"),
        ("DischargingCurrent", at.current_ma_g, "mA/g"),
        ("LowerVoltageLimit", at.v_low, "V"),
        ("UpperVoltageLimit", at.v_high, "V"),
    )
    return [
        _entity(
            crate,
            f"#{one.measurement_id}-{label}",
            "PropertyValue",
            {"name": label, "propertyID": BATTINFO[label], "value": value, "unitText": unit, "description": about},
        )
        for label, value, unit in values
    ]


def _column(crate: ROCrate, label: str) -> dict[str, str]:
    """A column of a cell's file, described once."""
    identifier = f"#column-{bdf.TERMS[label]}"
    if crate.get(identifier) is None:
        name, _, unit = label.partition(" / ")
        facts = {"name": name, "propertyID": bdf.ONTOLOGY + bdf.TERMS[label], "unitText": unit}
        _entity(crate, identifier, "PropertyValue", facts)
    return {"@id": identifier}
