"""What the tests of ledgers and campaigns share."""

from __future__ import annotations

import json
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

import numpy as np
from sqlalchemy import text

from campaigns.campaign import Campaign
from campaigns.ledger.ledger import Ledger
from campaigns.ledger.records import NewModel, PredictedProfile, Prediction
from campaigns.loop.outcomes import stated
from drxnet.checkpoint import CARD, WEIGHTS, ModelCard
from drxnet.composition import Composition
from drxnet.discharge import CyclingConditions, DischargeProfile
from drxnet.drxtd import Curve, CyclingTest, write_json
from screening.goals import Goals, Rates

START = NewModel(model_id="a1b2c3d4e5f6", path="models/N01")
"""The ensemble that a ledger of the tests starts with; there are no files behind it."""

LOW, HIGH = CyclingConditions(20.0), CyclingConditions(1000.0)
FIRST, SECOND, THIRD = "Li1.2Ti0.4Mn0.4O2", "Li1.2Mn0.6Nb0.2O2", "Li1.25Ti0.25Mn0.5O1.75F0.25"

SPACE = {
    "step": "1/20",
    "lithium": [1.15, 1.25],
    "fluorine": [0, 0.1],
    "species": ["Mn2+", "Mn3+", "Cr3+", "Ti4+", "Nb5+"],
    "k_elements": [2, 3],
}
"""Some hundred candidates."""


def write_stub_model(folder: Path) -> Path:
    """A model that can be found and copied, but not loaded: its weights are those of no network."""
    folder.mkdir(parents=True)
    weights = stub_weights(folder.name)
    (folder / CARD).write_text(json.dumps(asdict(ModelCard("stub", 1, weights_sha256=sha256(weights).hexdigest()))))
    (folder / WEIGHTS).write_bytes(weights)
    return folder


def stub_weights(name: str) -> bytes:
    """A safetensors file of one number; another name gives another file."""
    header = json.dumps({name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(4)


STUB_ID = sha256(stub_weights("stub")).hexdigest()[:12]
"""Id of what :func:`write_stub_model` writes to a folder named stub."""


def write_campaign(path: Path, model: Path, **changes: object) -> Path:
    """A campaign's YAML (JSON is YAML)."""
    values = {"space": SPACE, "model": str(model), "batch_size": 3, "shortlist": 40, "workers": 0, **changes}
    path.write_text("\n".join(f"{key}: {json.dumps(value)}" for key, value in values.items()) + "\n")
    return path


def prediction(retention: float = 0.7, low: float = 275.0, **changes: object) -> Prediction:
    """A prediction with its capacities in keeping."""
    currents = {k: v for k, v in changes.items() if k.endswith("current_ma_g")}
    goals = Goals(rates=Rates.model_validate(currents))
    mean, std = np.array([[retention, low, low * retention]]), np.array([[0.05, 8.0, 12.0]])
    columns = {k: float(v[0]) for k, v in goals.columns(mean, std).items()}
    values: dict[str, object] = {
        "values": stated(goals, columns),
        "low_current_ma_g": 20.0,
        "high_current_ma_g": 1000.0,
        "feasibility": 0.98,
        "score": 1.5,
        "domain": "inside",
        "why": "high retention",
    }
    return Prediction(**{**values, **changes})  # type: ignore[arg-type]


def make_first_version(ledger: Ledger) -> None:
    """Make a ledger what the first version wrote: without all that the second one added."""
    with ledger._database.engine.connect() as connection, connection.begin():
        for table in ("processes", "model_files", "verdicts", "phase_outcomes", "analyses"):
            connection.execute(text(f"DROP TABLE {table}"))
        if connection.dialect.name == "postgresql":
            connection.execute(text("DROP FUNCTION model_files_no_update, model_files_no_delete"))
        for column in ("charge_mah", "file_cycle", "elapsed_s", "charge_top_v"):
            connection.execute(text(f"ALTER TABLE measurements DROP COLUMN {column}"))
        connection.execute(text("UPDATE meta SET value = '1' WHERE key = 'schema_version'"))


def record_round(campaign: Campaign, *compositions: str) -> int:
    """Propose compositions without any model."""
    grid = LOW.grid(20)
    predicted = [PredictedProfile(c, grid, 270 - 50 * grid, np.full(20, 5.0)) for c in (LOW, HIGH)]
    with campaign.ledger.write("propose") as entry:
        return entry.add_round(
            [(c, prediction(), predicted) for c in compositions],
            model_id=entry.before.current_model.model_id,
            seed=0,
            strategy="qlognei",
            spec=campaign.spec.resolved(),
            spec_hash=campaign.spec.hash,
            statistics={},
        )


def straight_profile(capacity: float, conditions: CyclingConditions = LOW, points: int = 60) -> DischargeProfile:
    """A discharge of constant dQ/dV, whose mean voltage is the middle of the window."""
    voltage = conditions.grid(points)
    return DischargeProfile(voltage, capacity * (conditions.v_high - voltage) / (conditions.v_high - conditions.v_low))


def write_discharge(
    path: Path, formula: str, capacity: float, conditions: CyclingConditions = LOW, *, cycles: int = 1
) -> Path:
    """A DRX-TD json of straight discharges that fade by 1 % per cycle."""
    curves = []
    for cycle in range(1, cycles + 1):
        profile = straight_profile(capacity * (1 - 0.01 * (cycle - 1)), conditions)
        curves.append(Curve(cycle, profile.voltage_v[::-1], profile.capacity_mah_g[::-1]))
    test = CyclingTest(
        Composition.parse(formula), conditions.current_ma_g, conditions.v_low, conditions.v_high, tuple(curves)
    )
    write_json(path, test)
    return path
