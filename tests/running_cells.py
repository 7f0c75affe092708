"""Cells that go on cycling while their tests are exported again and again, in whole or in part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from synthetic_cycler import WINDOW, arbin_csv, assemble, charge_step, discharge_step, rest_step

from campaigns.campaign import Campaign
from campaigns.intake.files import check_files
from campaigns.intake.ingested import FileOutcome
from campaigns.intake.measurement import SampleInfo
from campaigns.intake.record import ingest

MASS_MG = 1.8


def running_test(
    capacities_mah_g: Sequence[float], *, current_ma_g: float = 20.0, mass_mg: float = MASS_MG, rows: int = 60
) -> pd.DataFrame:
    """Rows of a test of one discharge per capacity, each after a charge; cycles from 1, records and time go on."""
    steps, current = [rest_step(rows=3)], current_ma_g * mass_mg / 1e3
    for q in capacities_mah_g:
        charge = q * mass_mg / 1e3
        steps += [charge_step(charge * 1.03, current, rows // 2), discharge_step(charge, current, rows)]
    return assemble(*steps, rest_step(0.1, 1.9, 2))


def write_cycles(
    path: Path, test: pd.DataFrame, first: int = 1, last: int | None = None, *, crlf: bool = False
) -> Path:
    """Export some cycles of a test, with its own cycle and record numbers and times."""
    last = int(test.cycle.max()) if last is None else last
    text = arbin_csv(test[(test.cycle >= first) & (test.cycle <= last)])
    path.write_bytes(text.replace("\n", "\r\n").encode() if crlf else text.encode())
    return path


def hand_in(campaign: Campaign, path: Path, **said: object) -> FileOutcome:
    """Ingest one file with what the lab says of it."""
    sample = SampleInfo(**{"active_mass_mg": MASS_MG, "current_ma_g": 20.0, "window": WINDOW, **said})  # type: ignore[arg-type]
    (outcome,) = ingest(campaign, check_files(campaign, [path], otherwise=sample)).files
    return outcome


def held(campaign: Campaign) -> list[tuple[str, str, int, float]]:
    """What stands: proposal, cell, cycle, capacity to 0.1 mAh/g."""
    return [(m.proposal_id, m.cell, m.conditions.cycle, round(m.capacity_mah_g, 1)) for m in campaign.state().standing]
