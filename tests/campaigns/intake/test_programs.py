"""Random programs of all that a lab does: no discharge counts twice or is lost, first cycles are first cycles."""

from __future__ import annotations

import math
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from ledgers import FIRST, SECOND, record_round, write_campaign, write_stub_model
from running_cells import MASS_MG, hand_in, running_test, write_cycles

from campaigns.campaign import Campaign
from campaigns.intake.correction import supersede
from campaigns.intake.ingested import FileOutcome
from campaigns.ledger.records import Measurement
from campaigns.loop.mark import confirm, retract

MOST_CYCLES, MOST_CELLS = 5, 6
NAMES = {"R01-01": FIRST, "R01-02": SECOND}


@dataclass
class Coin:
    """A cell in the laboratory, which the ledger knows by its files alone."""

    number: int
    proposal: str
    rate: float
    label: str | None
    tenfold: bool
    """Whether its mass was written down ten times too large at first."""

    done: int = 1
    """Cycles so far."""

    handed_in: set[int] = field(default_factory=set)
    """Cycles that were recorded, or known, in some file."""

    @property
    def capacities(self) -> list[float]:
        """Unlike those of every other cell and cycle (mAh/g)."""
        base = 240.0 if self.rate == 20.0 else 170.0
        return [base * math.exp(-0.0137 * self.number - 0.0031 * n) for n in range(self.done)]

    def charge_mah(self, cycle: int) -> float:
        """Charge of a discharge, which stays what it is whatever is said of the mass."""
        base = 240.0 if self.rate == 20.0 else 170.0
        return base * math.exp(-0.0137 * self.number - 0.0031 * (cycle - 1)) * MASS_MG / 1e3


class Laboratory(RuleBasedStateMachine):
    """One campaign of two proposals, and the cells that are cycled for it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="drx-programs-"))
        model = write_stub_model(self.folder / "stub")
        self.campaign = Campaign.start(self.folder / "demo", write_campaign(self.folder / "t.yaml", model))
        record_round(self.campaign, *NAMES.values())
        self.coins: list[Coin] = []
        self.files = 0
        self._read()

    def teardown(self) -> None:
        self.campaign.close()
        shutil.rmtree(self.folder)

    # -- what happens in the laboratory ----------------------------------------------------------------------

    @initialize()
    def first_cell(self) -> None:
        self.coins.append(Coin(0, "R01-01", 20.0, None, tenfold=False))

    @precondition(lambda self: len(self.coins) < MOST_CELLS)
    @rule(
        proposal=st.sampled_from(sorted(NAMES)),
        rate=st.sampled_from([20.0, 1000.0]),
        labelled=st.booleans(),
        tenfold=st.sampled_from([False, False, True]),
    )
    def make_a_cell(self, proposal: str, rate: float, labelled: bool, tenfold: bool) -> None:
        number = len(self.coins)
        self.coins.append(Coin(number, proposal, rate, f"cell {number}" if labelled else None, tenfold))

    @rule(data=st.data(), cycles=st.integers(1, 2))
    def cycle(self, data: st.DataObject, cycles: int) -> None:
        coin = data.draw(st.sampled_from(self.coins))
        coin.done = min(coin.done + cycles, MOST_CYCLES)

    @rule(data=st.data(), crlf=st.booleans(), named=st.booleans())
    def export_all(self, data: st.DataObject, crlf: bool, named: bool) -> None:
        """The whole test so far, with or without the label."""
        coin = data.draw(st.sampled_from(self.coins))
        outcome = self._hand_in(coin, 1, crlf=crlf, cell=coin.label if named else None)
        assert outcome.status in ("recorded", "doubtful", "known") or self._is_known(coin), outcome.rules

    @rule(
        data=st.data(), start=st.integers(2, MOST_CYCLES), way=st.sampled_from(["nothing", "continues", "first_cycle"])
    )
    def export_a_part(self, data: st.DataObject, start: int, way: str) -> None:
        """Only later cycles, with more or less said about them."""
        coin = data.draw(st.sampled_from(self.coins))
        known = self._recorded(coin)
        if start > coin.done:
            return
        if way == "first_cycle" and self._is_called_another(coin, start):
            way = "continues"  # under a new label it is another cell, as labels go
            if not known:
                return
        said: dict[str, object] = {}
        if way == "continues" and known:
            said["continues"] = known[0].file
        if way == "first_cycle":
            said["first_cycle"] = start
        nowhere = not self._is_known(coin)
        outcome = self._hand_in(coin, start, cell=coin.label, **said)
        if way == "nothing" and nowhere:
            assert outcome.status == "refused"

    @rule(data=st.data())
    def export_under_the_wrong_label(self, data: st.DataObject) -> None:
        """What is recorded for one proposal is not taken for the other."""
        coin = data.draw(st.sampled_from(self.coins))
        if not self._recorded(coin) or coin.tenfold:
            return
        other = next(name for name in NAMES if name != coin.proposal)
        before = self.state
        outcome = self._hand_in(coin, 1, proposal=other, cell=None)
        assert outcome.status == "refused" or (outcome.status, self.state) == ("known", before)

    @rule(data=st.data())
    def retract_one(self, data: st.DataObject) -> None:
        if standing := self.state.standing:
            retract(self.campaign, [data.draw(st.sampled_from(standing)).measurement_id], "short circuit")
            self._read()

    @rule(data=st.data())
    def confirm_one(self, data: st.DataObject) -> None:
        if doubtful := self.state.doubtful:
            confirm(self.campaign, [data.draw(st.sampled_from(doubtful)).measurement_id])
            self._read()

    @rule(data=st.data())
    def correct_a_tenfold_mass(self, data: st.DataObject) -> None:
        coins = [c for c in self.coins if c.tenfold and self._recorded(c)]
        if coins:
            coin = data.draw(st.sampled_from(coins))
            supersede(self.campaign, [m.measurement_id for m in self._recorded(coin)], "a slip", scale=10.0)
            coin.tenfold = False
            self._read()

    @rule(data=st.data())
    def move_to_the_other_proposal(self, data: st.DataObject) -> None:
        """The labels of the powders were swapped, as it turns out."""
        coins = [c for c in self.coins if self._recorded(c)]
        if not coins:
            return
        coin = data.draw(st.sampled_from(coins))
        mine = self._recorded(coin)
        other = next(name for name in NAMES if name != coin.proposal)
        taken = {(m.proposal_id, m.cell) for m in self.state.measurements}
        if not any((other, m.cell) in taken for m in mine):
            supersede(self.campaign, [m.measurement_id for m in mine], "swapped", {"proposal_id": other})
            coin.proposal = other
            self._read()

    # -- what must hold --------------------------------------------------------------------------------------

    @invariant()
    def nothing_counts_twice(self) -> None:
        for coin in self.coins:
            for cycle in range(1, coin.done + 1):
                standing = [m for m in self._of(coin, cycle) if m.withdrawn_event is None]
                assert len(standing) <= 1, standing

    @invariant()
    def what_was_retracted_stays_out(self) -> None:
        for coin in self.coins:
            for cycle in range(1, coin.done + 1):
                stands = {m.withdrawn_event is None for m in self._of(coin, cycle) if m.status != "superseded"}
                assert len(stands) <= 1, (coin, cycle)

    @invariant()
    def nothing_is_lost(self) -> None:
        for coin in self.coins:
            for cycle in coin.handed_in:
                assert self._of(coin, cycle), (coin, cycle)
        total = sum(len(self._of(coin, n)) for coin in self.coins for n in range(1, coin.done + 1))
        assert total == len(self.state.measurements)

    @invariant()
    def cycles_are_what_they_are(self) -> None:
        for coin in self.coins:
            for cycle in range(1, coin.done + 1):
                for m in self._of(coin, cycle):
                    assert m.conditions.cycle == cycle

    @invariant()
    def a_cell_is_one_cell(self) -> None:
        for coin in self.coins:
            assert len({(m.proposal_id, m.cell) for m in self._recorded(coin)}) <= 1
        labels = [(m.proposal_id, m.cell, c.number) for c in self.coins for m in self._recorded(c)]
        assert len({label[:2] for label in labels}) == len(set(labels))

    @invariant()
    def what_is_doubted_is_not_learned_from(self) -> None:
        state = self.state
        assert not {m.measurement_id for m in state.unlearned} & {m.measurement_id for m in state.doubtful}
        assert {m.measurement_id for m in state.standing} == {m.measurement_id for m in (*state.valid, *state.doubtful)}

    # -- how -------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        """Look into the ledger once after everything that may have changed it."""
        self.state = self.campaign.state()

    def _hand_in(self, coin: Coin, first: int, *, crlf: bool = False, **said: object) -> FileOutcome:
        self.files += 1
        test = running_test(coin.capacities, current_ma_g=coin.rate, rows=52)
        path = write_cycles(self.folder / f"export {self.files}.csv", test, first, crlf=crlf)
        mass = {"active_mass_mg": 10 * MASS_MG, "current_ma_g": None} if coin.tenfold else {"current_ma_g": coin.rate}
        outcome = hand_in(self.campaign, path, **{"proposal": coin.proposal, **mass, **said})
        self._read()
        if outcome.status != "refused":
            coin.handed_in |= set(range(first, coin.done + 1))
        return outcome

    def _of(self, coin: Coin, cycle: int) -> list[Measurement]:
        charge = coin.charge_mah(cycle)
        return [
            m for m in self.state.measurements if m.charge_mah is not None and abs(m.charge_mah / charge - 1) < 4e-4
        ]

    def _is_called_another(self, coin: Coin, start: int) -> bool:
        """Whether a part comes under a label that its cell does not have yet, and nothing in it is known."""
        mine = self._recorded(coin)
        if not mine or coin.label in {None, *(m.cell for m in mine)}:
            return False
        return not any(self._of(coin, n) for n in range(start, coin.done + 1))

    def _recorded(self, coin: Coin) -> list[Measurement]:
        return [m for n in range(1, coin.done + 1) for m in self._of(coin, n) if m.withdrawn_event is None]

    def _is_known(self, coin: Coin) -> bool:
        """Whether something of a cell is recorded, withdrawn too, by whatever mass or label."""
        return any(self._of(coin, n) for n in range(1, coin.done + 1))


def _settings(programs: int) -> settings:
    return settings(
        max_examples=programs,
        stateful_step_count=12,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )


def test_a_few_programs_lose_and_double_nothing():
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(Laboratory, settings=_settings(12))


@pytest.mark.slow
def test_a_thousand_programs_lose_and_double_nothing():
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(Laboratory, settings=_settings(1000))
