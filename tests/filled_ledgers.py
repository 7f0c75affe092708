"""Ledgers with a history: rounds, cells, failures, models and refused files, from closed forms and a seed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from campaigns.ledger.database import sqlite_url
from campaigns.ledger.entry import Entry
from campaigns.ledger.ledger import Ledger
from campaigns.ledger.records import NewMeasurement, NewModel, PredictedProfile, Prediction, State
from campaigns.loop.outcomes import stated
from drxnet.composition import Composition
from drxnet.discharge import CyclingConditions, DischargeProfile
from screening.goals import Goals

GOALS = Goals()
CONDITIONS = GOALS.rates
_VOLTAGE = np.linspace(CONDITIONS.v_low, CONDITIONS.v_high, 100)
_SHAPE = 1 - ((_VOLTAGE - CONDITIONS.v_low) / (CONDITIONS.v_high - CONDITIONS.v_low)) ** 1.6
_METALS = {"Mg": 2, "Mn": 2, "Cr": 3, "Ti": 4, "Nb": 5}


def composition(rng: np.random.Generator) -> Composition:
    """A neutral composition of Li, Mg, Mn, Cr, Ti and Nb with fluorine as the slack."""
    while True:
        lithium = rng.integers(110, 131) / 100
        units = np.floor(rng.dirichlet(np.ones(len(_METALS))) * (2 - lithium) * 100) / 100
        amounts = dict(zip(_METALS, units.tolist(), strict=True))
        amounts["Mn"] += 2 - lithium - sum(amounts.values())
        fluorine = 4 - lithium - sum(z * amounts[s] for s, z in _METALS.items())
        if 0 <= fluorine <= 0.6:
            return Composition.from_amounts({"Li": lithium, **amounts, "O": 2 - fluorine, "F": fluorine})


def truth(formula: str) -> tuple[float, float]:
    """Capacity at the low rate (mAh/g) and retention that cells of a composition would show."""
    c = Composition.parse(formula)
    metals = c.metals
    low = 160 + 250 * metals.get("Cr", 0.0) + 150 * metals.get("Mn", 0.0) - 60 * c.fluorine
    retention = 0.35 + 0.7 * metals.get("Cr", 0.0) + 0.5 * metals.get("Mg", 0.0) + 0.6 * (c.lithium - 1.1)
    return low, min(retention, 0.95)


def prediction(formula: str, rng: np.random.Generator, error: float) -> tuple[Prediction, list[PredictedProfile]]:
    """What a model that is off by about ``error`` (relative) would say."""
    low, retention = truth(formula)
    std = abs(error) * (0.6 + 0.8 * rng.random())
    low *= 1 + error * rng.standard_normal()
    retention = float(np.clip(retention * (1 + error * rng.standard_normal()), 0.05, 1))
    means = np.array([[retention, low, low * retention]])
    columns = {k: float(v[0]) for k, v in GOALS.columns(means, std * means).items()}
    said = Prediction(
        values=stated(GOALS, columns),
        low_current_ma_g=CONDITIONS.low_current_ma_g,
        high_current_ma_g=CONDITIONS.high_current_ma_g,
        feasibility=0.9,
        score=retention,
        domain="inside",
        why="high retention, unlike the rest of the batch",
    )
    profiles = [
        PredictedProfile(at, _VOLTAGE, _SHAPE * q, _SHAPE * q * std)
        for at, q in ((CONDITIONS.low, low), (CONDITIONS.high, low * retention))
    ]
    return said, profiles


def measurement(formula: str, at: CyclingConditions, rng: np.random.Generator, *, cycle: int = 1) -> NewMeasurement:
    """One noisy discharge of one cell."""
    low, retention = truth(formula)
    capacity = low * (retention if at.current_ma_g > 100 else 1.0) * (1 + 0.02 * rng.standard_normal())
    profile = DischargeProfile(_VOLTAGE, _SHAPE * capacity * (1 - 0.01 * (cycle - 1)))
    conditions = CyclingConditions(at.current_ma_g, at.v_low, at.v_high, cycle)
    return NewMeasurement(formula, conditions, profile.total_capacity_mah_g, profile, None, "drx-td")


def filled_ledger(
    folder: Path, *, rounds: int = 4, batch: int = 8, cells: int = 2, cycles: int = 1, seed: int = 0
) -> Ledger:
    """A new ledger in a folder, filled by :func:`fill`."""
    ledger = Ledger.create(sqlite_url(folder / "ledger.sqlite"), "demo", NewModel("a1b2c3d4e5f6", "models/N01"))
    return fill(ledger, rounds=rounds, batch=batch, cells=cells, cycles=cycles, seed=seed)


def fill(ledger: Ledger, *, rounds: int = 4, batch: int = 8, cells: int = 2, cycles: int = 1, seed: int = 0) -> Ledger:
    """Write a campaign of several rounds into an empty ledger; the last round still waits for its cells.

    Every eighth proposal failed, every ninth has the low rate only; one file per proposal; a model per round, the
    second child refused; two refused files; one composition brought by the lab; one measurement retracted.
    """
    rng = np.random.default_rng(seed)
    model = ledger.read().first_model.model_id
    learned: list[str] = []
    for number in range(1, rounds + 1):
        formulas: list[str] = []
        while len(formulas) < batch:
            candidates = [composition(rng).formula for _ in range(2 * min(number, 5))]
            formulas.append(max(candidates, key=lambda f: truth(f)[1]))
        with ledger.write("propose") as entry:
            batch_of = [(f, *prediction(f, rng, 0.16 / np.sqrt(number))) for f in formulas]
            entry.add_round(
                batch_of, model_id=model, seed=0, strategy="qlognei", spec={}, spec_hash="0" * 16, statistics={}
            )
        if number == rounds:
            break
        with ledger.write("ingest") as entry:
            learned += _returned(entry, number, formulas, rng, cells, cycles)
        new = hashlib.sha256(f"{seed}-{number}".encode()).hexdigest()[:12]
        accepted = number != 2
        metrics = {"error_before_mah_g": 40 / number, "error_after_mah_g": (30 if accepted else 44) / number}
        with ledger.write("finetune") as entry:
            entry.add_model(NewModel(new, f"models/{new}", model, "f" * 16, tuple(learned), accepted, metrics))
        model = new if accepted else model
    with ledger.write("ingest") as entry:
        brought = composition(rng).formula
        name = entry.add_lab_composition(brought)
        for at in (CONDITIONS.low, CONDITIONS.high):
            entry.add_measurement(name, f"{at.current_ma_g:g} mA/g", measurement(brought, at, rng), None)
        wrong = entry.add_measurement(name, "20 mA/g, wrong mass", measurement(brought, CONDITIONS.low, rng), None)
        entry.note_refused(
            [
                {
                    "name": "cell_31.xlsx",
                    "sha256": "0" * 64,
                    "rules": [{"id": "E4", "message": "capacity <500> mAh/g"}],
                },
                {"name": "cell_32.csv", "sha256": "1" * 64, "rules": [{"id": "E2", "message": "no active mass"}]},
            ]
        )
    with ledger.write("retract") as entry:
        entry.withdraw(wrong, "active mass was wrong")
    return ledger


def _returned(
    entry: Entry, number: int, formulas: list[str], rng: np.random.Generator, cells: int, cycles: int
) -> list[str]:
    recorded = []
    for position, formula in enumerate(formulas, start=1):
        name = f"R{number:02d}-{position:02d}"
        count = (number - 1) * len(formulas) + position
        if count % 8 == 3:
            entry.set_state(name, State.FAILED, "second phase in the diffractogram")
            continue
        sha = hashlib.sha256(name.encode()).hexdigest()
        entry.add_file(sha, f"{name}.json", "drx-td", "accepted", [])
        for at in (CONDITIONS.low,) if count % 9 == 5 else (CONDITIONS.low, CONDITIONS.high):
            for cell in range(cells):
                label = f"{name}-{at.current_ma_g:g}-{cell}"
                for cycle in range(1, cycles + 1):
                    new = measurement(formula, at, rng, cycle=cycle)
                    recorded.append(entry.add_measurement(name, label, new, sha))
    return recorded
