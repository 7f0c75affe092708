"""A self-driving laboratory's scheduler on a campaign that `drx-screen serve` holds.

    drx-screen serve -C he-rate                                    # on one machine
    python examples/orchestrator.py http://HOST:8000/he-rate       # on the one that drives furnaces and cyclers

What waits is made first, so that a scheduler that was stopped goes on where it was. Then, round after round: ask for a
batch, accept it, make it, hand in the cycler's files, say of a failed synthesis why, and let the model learn.
`SimulatedLaboratory` stands in for the machines; put yours in its place: anything with the same `make`.
"""

from __future__ import annotations

import argparse
import csv
import random
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from campaigns.campaign import ServedCampaign
from campaigns.errors import Stale
from campaigns.intake.measurement import SampleInfo
from screening.errors import NothingToPropose


@dataclass(frozen=True)
class Made:
    """What came of one proposal: files of its cells, or why there is none."""

    files: Sequence[Path] = ()
    active_mass_mg: float | None = None
    failure: str = ""


class Laboratory(Protocol):
    """Whatever makes a composition and cycles its cells."""

    def make(self, proposal: Mapping[str, Any]) -> Made:
        """Make a proposal and give back the files of its cells."""
        ...


class SimulatedLaboratory:
    """Furnaces that fail sometimes and a cycler that writes CSV; the same seed gives the same cells."""

    ACTIVE_MASS_MG = 2.0

    def __init__(self, folder: Path, *, seed: int = 0, failing: float = 0.2) -> None:
        self.folder, self.seed, self.failing = folder, seed, failing

    def make(self, proposal: Mapping[str, Any]) -> Made:
        """Fail, or write a cell at each of the campaign's two rates."""
        name = proposal["proposal_id"]
        luck = random.Random(f"{self.seed} {name}")
        if luck.random() < self.failing:
            return Made(failure="a second phase in XRD")
        low = luck.uniform(0.9, 1.0) * proposal["capacity_low_mah_g_mean"]
        kept = luck.uniform(0.9, 1.0) * proposal["rate_retention_mean"]
        cells = {proposal["low_current_ma_g"]: low, proposal["high_current_ma_g"]: low * kept}
        files = [self._cycle(f"{name}_{current:g}.csv", current, capacity) for current, capacity in cells.items()]
        return Made(files, self.ACTIVE_MASS_MG)

    def _cycle(self, name: str, current_ma_g: float, capacity_mah_g: float, rows: int = 120) -> Path:
        """Charge to 4.8 V and discharge to 1.5 V at a constant current."""
        amperes = current_ma_g * self.ACTIVE_MASS_MG * 1e-6
        seconds = 3600 * capacity_mah_g / current_ma_g / rows
        path = self.folder / name
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["Test_Time(s)", "Cycle_Index", "Step_Index", "Current(A)", "Voltage(V)"])
            for step, sign in ((1, 1), (2, -1)):
                for row in range(rows):
                    share = (row + 1) / rows
                    volts = 3.0 + 1.8 * share if sign > 0 else 4.75 - 1.3 * share - 1.95 * share**4
                    time_s = seconds * ((step - 1) * rows + row + 1)
                    table.writerow([f"{time_s:.3f}", 1, step, f"{sign * amperes:.9f}", f"{volts:.4f}"])
        return path


class Scheduler:
    """Drives a laboratory for a campaign."""

    def __init__(self, campaign: ServedCampaign, laboratory: Laboratory) -> None:
        self.campaign, self.laboratory = campaign, laboratory

    def finish(self) -> None:
        """Make everything that waits, and let the model learn from it."""
        waiting = self.campaign.proposals("proposed", "accepted")
        recorded = [name for proposal in waiting for name in self._make(proposal)]
        if recorded:
            learned = self.campaign.fine_tune()
            print(f"learned: {learned.sentence}")

    def round(self, batch_size: int) -> bool:
        """Ask for a batch and make it; whether there was anything left to propose."""
        try:
            batch = self.campaign.recommend(batch_size)
        except NothingToPropose as nothing:
            print(nothing)
            return False
        print(f"proposed: {', '.join(p.proposal_id for p in batch)}")
        self.campaign.mark([p.proposal_id for p in batch], "accepted", "taken by the scheduler")
        self.finish()
        return True

    def _make(self, proposal: Mapping[str, Any]) -> Sequence[str]:
        """Make one proposal, and record what came of it; the ids of its measurements."""
        name = proposal["proposal_id"]
        self.campaign.show(name)  # from here on, what somebody else says of it meanwhile is not written over
        made = self.laboratory.make(proposal)
        if made.failure:
            try:
                self.campaign.mark(name, "failed", made.failure)
            except Stale as changed:
                print(changed)
            return ()
        sample = SampleInfo(proposal=name, active_mass_mg=made.active_mass_mg)
        done = self.campaign.ingest(list(made.files), sample=sample, fine_tune=False)
        for file in done.refused:
            print(f"{file.name}: {'; '.join(map(str, file.rules))}")
        return done.measurements


def main() -> None:
    """Run some rounds with the simulated laboratory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", help="of the campaign: http://HOST:8000/NAME")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0, help="of the simulated laboratory")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ServedCampaign(options.address, who="orchestrator") as campaign:
        scheduler = Scheduler(campaign, SimulatedLaboratory(Path(folder), seed=options.seed))
        scheduler.finish()
        for _ in range(options.rounds):
            if not scheduler.round(options.batch):
                break
        for row in campaign.rank(within="measured", top=5):
            print(f"{row['rank']}  {row['proposal_id']}  {row['composition']}  {row['rate_retention_mean']:.2f}")


if __name__ == "__main__":
    main()
