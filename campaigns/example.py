"""What to learn with: a small campaign, a simulated laboratory that returns cycler files, and the tutorials.

The laboratory is :class:`campaigns.loop.laboratories.PhysicsTruth`, a formula with invented numbers and no network, so
that there is something for the model to learn. Its files are those of four makers (:mod:`campaigns.intake.exports`).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from campaigns.intake.samples import COLUMNS
from drxnet.errors import ConfigurationError
from drxnet.files import replace_file
from drxnet.text import csv_table

if TYPE_CHECKING:
    import pandas as pd

    from campaigns.ledger.records import Proposal
    from drxnet.discharge import CyclingConditions

FIRST_WEEK = (
    "Li1.2Ti0.3Cr0.1Mn0.3Nb0.1O2",
    "Li1.2Ti0.2Cr0.2Mn0.3Nb0.1O1.95F0.05",
    "Li1.25Ti0.1Cr0.25Mn0.2Nb0.2O1.95F0.05",
    "Li1.15Ti0.35Cr0.15Mn0.3Nb0.05O1.95F0.05",
)
"""What the group had made before the campaign began."""

_CYCLES, _FADE, _SCATTER = 2, 0.97, 0.02
_GRID_STEP_V = 0.02


@dataclass(frozen=True)
class Made:
    """A composition that was made: by its proposal, or by its formula alone."""

    name: str
    """Start of the names of its files."""

    composition: str
    proposal_id: str = ""


def write_example(folder: Path) -> list[Path]:
    """Write a campaign's YAML, a week of cycler files with their sample table, and the notebooks.

    Args:
        folder: to create.

    Returns:
        The files: ``campaign.yaml``, the sample table, and the notebooks in the order to read them.

    Raises:
        ConfigurationError: the folder is there already and not empty.
    """
    from campaigns.spec import FILE_NAME
    from campaigns.template import commented

    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ConfigurationError(f"An example is written to a new folder. {folder} is there already; name another one.")
    text = (files("campaigns") / "data" / "example.yaml").read_text(encoding="utf-8")
    replace_file(folder / FILE_NAME, commented(f"name: {folder.resolve().name}\n{text}").encode())
    samples = cycle_cells([Made(f"P{n}", formula) for n, formula in enumerate(FIRST_WEEK, 1)], folder / "week1")
    notebooks = []
    for name in NOTEBOOKS:
        notebooks.append(folder / f"{name}.ipynb")
        replace_file(notebooks[-1], (files("campaigns") / "tutorials" / f"{name}.ipynb").read_bytes())
    return [folder / FILE_NAME, samples, *notebooks]


NOTEBOOKS = ("predict", "campaign", "own_loop")
"""The tutorials, in the order to read them."""


def cycle_proposals(proposals: Sequence[Proposal], folder: str | Path, *, seed: int = 0) -> Path:
    """Let the simulated laboratory make and cycle two cells of each proposal; see :func:`cycle_cells`."""
    return cycle_cells([Made(p.proposal_id, p.composition, p.proposal_id) for p in proposals], Path(folder), seed=seed)


def cycle_cells(made: Sequence[Made], folder: Path, *, seed: int = 0) -> Path:
    """Cycle a cell of each composition at 20 and one at 1000 mA/g in 1.5-4.8 V; write what the cyclers export.

    Args:
        made: compositions.
        folder: to write to.
        seed: of the masses and of the scatter of cells.

    Returns:
        The sample table, filled in, for ``ingest --samples``.
    """
    from campaigns.intake.exports import FORMATS

    folder.mkdir(parents=True, exist_ok=True)
    rows, makers = [], cycle(FORMATS.items())
    for one, at, voltage_v, capacity_mah_g in _discharges(made):
        rng = np.random.default_rng([seed, zlib.crc32(f"{one.composition} {at.current_ma_g:g}".encode())])
        mass_mg = round(float(rng.uniform(1.5, 4.0)), 2)
        scattered = capacity_mah_g * max(1 + _SCATTER * float(rng.standard_normal()), 0.5)
        maker, (suffix, export) = next(makers)
        path = folder / f"{one.name}_{at.current_ma_g:g}mAg_{maker}{suffix}"
        test = _cell_test(voltage_v, scattered, at.current_ma_g, mass_mg)
        test.attrs |= {"electrode": one.composition, "mass_mg": mass_mg}
        replace_file(path, export(test).encode("latin-1"))
        known: dict[str, object] = {
            "file": path.name,
            "proposal": one.proposal_id,
            "composition": one.composition,
            "cell": path.stem,
        }
        known |= {"active_mass_mg": mass_mg, "current_ma_g": at.current_ma_g, "window": f"{at.v_low:g}-{at.v_high:g}"}
        rows.append({column: known.get(column, "") for column in COLUMNS})
    replace_file(folder / "samples.csv", csv_table(rows, list(COLUMNS)).encode())
    return folder / "samples.csv"


def _discharges(made: Sequence[Made]) -> Iterator[tuple[Made, CyclingConditions, np.ndarray, np.ndarray]]:
    """First discharge of each composition at each rate: voltages falling (V), capacity rising (mAh/g)."""
    from campaigns.loop.laboratories import PhysicsTruth
    from drxnet.discharge import CyclingConditions

    rates = [CyclingConditions(20.0), CyclingConditions(1000.0)]
    voltage_v = np.arange(rates[0].v_high, rates[0].v_low - _GRID_STEP_V / 2, -_GRID_STEP_V)
    profiles = PhysicsTruth().profiles([m.composition for m in made], rates, voltage_v)[0].numpy()
    for one, of_one in zip(made, profiles, strict=True):
        for at, capacity_mah_g in zip(rates, of_one, strict=True):
            yield one, at, voltage_v, capacity_mah_g


def _cell_test(voltage_v: np.ndarray, capacity_mah_g: np.ndarray, current_ma_g: float, mass_mg: float) -> pd.DataFrame:
    from campaigns.intake.exports import assemble, charge_step, discharge_step, rest_step

    slow, fast = 20.0 * mass_mg / 1e3, current_ma_g * mass_mg / 1e3
    whole = float(capacity_mah_g[-1]) * mass_mg / 1e3
    share = capacity_mah_g / capacity_mah_g[-1]
    steps = [rest_step()]
    for n in range(_CYCLES):
        steps += [
            charge_step(whole * _FADE**n * 1.05, slow),
            rest_step(0.1, 4.7, 3),
            discharge_step(whole * _FADE**n, fast, lambda x: np.interp(x, share, voltage_v)),
        ]
    return assemble(*steps, rest_step(0.2, 1.9))
