"""What is stated of the process as columns of X, and what the Gaussian model learns from them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes import FakeEnsemble

from drxnet.composition import Composition
from drxnet.discharge import CyclingConditions
from drxnet.ensemble import Amounts
from drxnet.errors import UsageError
from drxnet.process import NOT_STATED, Process, alike, joined
from screening.encoding import Encoding
from screening.estimates import same_conditions
from screening.goals import Goals, Rates
from screening.measured import Measured
from screening.outlook import Outlook
from screening.quantities import Capacity
from screening.streaming import StreamMarginals
from screening.surrogate import DRXNetEnsembleModel, DRXNetGaussianModel

MILLED, PLAIN = Process.of({"milled": "yes"}), Process.of({"milled": "no"})
HOT, COLD = (Process.of({"firing_temperature_c": t, "milled": "yes"}) for t in (1000, 800))
ENCODING = Encoding(("Mn", "Ti", "Nb"), ("milled", "firing_temperature_c"))
FORMULAS = ["Li1.2Mn0.4Ti0.4O2", "Li1.2Mn0.6Nb0.2O2", "Li1.3Mn0.4Nb0.3O2", "Li1.1Mn0.7Ti0.2O1.9F0.1"]


def test_what_is_stated_stands_behind_the_amounts() -> None:
    assert ENCODING.columns == (
        *("Ti", "Mn", "Nb", "F"),
        *("milled=no", "milled=yes", "milled stated"),
        *("firing_temperature_c", "firing_temperature_c stated"),
    )
    assert ENCODING.d == len(ENCODING.columns) == ENCODING.bounds().shape[1]
    x = ENCODING.encode(FORMULAS[:3], [HOT, NOT_STATED, PLAIN])
    assert x[:, 4:].tolist() == [[0, 1, 1, pytest.approx(2 / 3), 1], [0] * 5, [1, 0, 1, 0, 0]]
    assert ENCODING.decode_processes(ENCODING.process_columns(x)) == [HOT, NOT_STATED, PLAIN]
    assert ENCODING.decode(x) == [Composition.parse(f) for f in FORMULAS[:3]]
    assert ENCODING.amounts(x).fluorine.tolist() == [0.0, 0.0, 0.0]
    assert torch.equal(ENCODING.encode(FORMULAS[:1]), ENCODING.encode(FORMULAS[:1], [NOT_STATED]))


def test_processes_that_do_not_differ_are_grouped() -> None:
    fired = Process.of({"firing_temperature_c": 1005})
    assert alike([PLAIN, HOT, MILLED, NOT_STATED, fired]) == [[1, 2, 3, 4], [0]]
    assert joined([MILLED, fired, NOT_STATED]) == Process.of({"milled": "yes", "firing_temperature_c": 1005})
    assert alike([]) == []


def test_conditions_count_as_the_same_where_the_process_is_not_known_to_differ() -> None:
    low = CyclingConditions(20.0)
    milled, plain = (CyclingConditions(20.0, process=p) for p in (MILLED, PLAIN))
    assert same_conditions(milled, low)
    assert same_conditions(low, milled)
    assert not same_conditions(milled, plain)


def test_goals_of_a_process_are_others() -> None:
    goals = Goals(also=(Capacity(Rates().at(50.0)),))
    milled = goals.under(MILLED)
    assert milled.rates.process == MILLED
    assert {c.process for q in milled.quantities for c in q.conditions} == {MILLED}
    assert milled.under(NOT_STATED).quantities == goals.quantities
    assert goals.under(NOT_STATED) is goals


def measured(seed: int, count: int, *, processes: bool = True) -> list[Measured]:
    """Cells of a laboratory where milled powder gives a quarter more."""
    rng, ensemble, goals = np.random.default_rng(seed), FakeEnsemble(3), Goals()
    found = []
    for i in range(count):
        composition = Composition.parse(FORMULAS[i % len(FORMULAS)])
        process = (MILLED, PLAIN)[int(rng.integers(2))]
        factor = 1.25 if process == MILLED else 1.0
        q = ensemble.capacity([composition], [goals.rates.low, goals.rates.high]).mean((0, 1)) * factor
        low, high = (q * (1 + 0.03 * torch.from_numpy(rng.standard_normal(2)))).tolist()
        cells = Measured.at_two_rates(composition, goals.rates, low, high)
        found.append(Measured(composition, cells.estimates, process if processes else NOT_STATED))
    return found


def test_the_gaussian_model_learns_what_milling_does() -> None:
    outlook = Outlook.of(FakeEnsemble(3), measured=measured(0, 24))
    model, column = outlook.surrogate, outlook.goals.column(Capacity(outlook.goals.rates.low))
    assert model.reader.encoding.process == ("milled",)
    unseen = Amounts.of(["Li1.2Mn0.5Ti0.2Nb0.1O2"])
    said = {}
    for process in (MILLED, PLAIN, NOT_STATED):
        points = model.reader.read(unseen, None, model.reader.encoding.encode_processes([process]))
        said[process] = [float(v[0, column]) for v in model.marginals(points)]
        fast = [float(v[0, column]) for v in StreamMarginals(model)(points)]
        assert fast == pytest.approx(said[process], rel=1e-6)
    raw = float(FakeEnsemble(3).capacity(unseen, [outlook.goals.rates.low]).mean())
    assert said[MILLED][0] == pytest.approx(1.25 * raw, rel=0.08)
    assert said[PLAIN][0] == pytest.approx(raw, rel=0.08)
    assert said[NOT_STATED][1] > max(said[MILLED][1], said[PLAIN][1]), "what is not stated is less sure"
    x = model.reader.encoding.encode(["Li1.2Mn0.5Ti0.2Nb0.1O2"], [MILLED])
    posterior = model.posterior(x)
    assert float(posterior.mean[0, column]) == pytest.approx(said[MILLED][0], rel=1e-6)
    paths = model.sample_paths(64, seed=0)(model.reader.read_rows(x))
    assert float(paths[:, 0, column].mean()) == pytest.approx(said[MILLED][0], rel=0.05)


def test_the_spread_grows_outside_what_was_learned_of_a_process() -> None:
    fired = [Process.of({"firing_temperature_c": t}) for t in (800, 850, 900)]
    cells = [Measured(m.composition, m.estimates, fired[i % 3]) for i, m in enumerate(measured(0, 24))]
    outlook = Outlook.of(FakeEnsemble(3), measured=cells)
    column = outlook.goals.column(Capacity(outlook.goals.rates.low))
    asked = [Process.of({"firing_temperature_c": t}) for t in (850, 1000, 1150, 1500)]
    _, std = outlook.surrogate.marginals(outlook.read(["Li1.2Mn0.5Ti0.2Nb0.1O2"] * 4, asked))
    spreads = std[:, column].tolist()
    assert spreads == sorted(spreads)
    assert spreads[-1] > 1.5 * spreads[0]


def test_what_all_state_alike_or_nobody_states_gets_no_columns() -> None:
    cells = [Measured(m.composition, m.estimates, MILLED) for m in measured(0, 8)]
    for same in (cells, measured(0, 8, processes=False), [*cells, *measured(0, 4, processes=False)]):
        outlook = Outlook.of(FakeEnsemble(3), measured=same)
        assert outlook.surrogate.reader.encoding.process == ()
        assert "process_weight" not in outlook.surrogate.hyperparameters()


def test_a_campaign_that_fixes_the_process_is_told_for_it() -> None:
    rates = Rates(process=PLAIN)
    cells = [
        Measured(m.composition, {q.under(PLAIN): e for q, e in m.estimates.items()}, m.process) for m in measured(0, 24)
    ]
    outlook = Outlook.of(FakeEnsemble(3), Goals(rates=rates), measured=cells)
    column = outlook.goals.column(Capacity(rates.low))
    unseen = ["Li1.2Mn0.5Ti0.2Nb0.1O2"]
    mean, _ = outlook.surrogate.marginals(outlook.read(unseen))
    raw = float(FakeEnsemble(3).capacity(Amounts.of(unseen), [rates.low]).mean())
    assert float(mean[0, column]) == pytest.approx(raw, rel=0.08)


def test_rows_whose_process_is_no_number_are_refused() -> None:
    model = DRXNetGaussianModel(FakeEnsemble(2), ENCODING)
    x = ENCODING.encode(FORMULAS[:1], [HOT])
    x[0, -1] = torch.nan
    with pytest.raises(UsageError, match="0.6667, nan"):
        model.posterior(x)


def test_sample_paths_have_the_posteriors_moments_whatever_the_process() -> None:
    x = ENCODING.encode(FORMULAS, [HOT, PLAIN, COLD, NOT_STATED])
    model = DRXNetGaussianModel(FakeEnsemble(3), ENCODING)
    model.with_hyperparameters({**model.hyperparameters(), "process_weight": [0.4] * 3})
    points = model.reader.read_rows(x)
    paths = torch.cat([model.sample_paths(200, seed)(points) for seed in range(4)])
    mean, std = model.marginals(points)
    plain = DRXNetGaussianModel(FakeEnsemble(3), ENCODING)
    assert (std > 1.2 * plain.marginals(points)[1]).all(), "most of the spread is that of the process"
    torch.testing.assert_close(paths.std(0), std, rtol=0.15, atol=1e-6)
    assert ((paths.mean(0) - mean).abs() < 0.15 * std).all()


class KnowsMilling(FakeEnsemble):
    """Members that have learned what milling does to a capacity."""

    def __init__(self, members: int) -> None:
        super().__init__(members)
        self.card = replace(self.card, process={"milled": ("no", "yes")})

    def _at(self, full, conditions):
        return super()._at(full, conditions) * {"yes": 1.25, "no": 0.5}.get(conditions.process.get("milled"), 1.0)


@pytest.mark.parametrize("kind", [DRXNetEnsembleModel, DRXNetGaussianModel], ids=["members", "gaussian"])
def test_members_that_know_the_process_are_asked_under_that_of_each_row(kind) -> None:
    ensemble, processes = KnowsMilling(3), [MILLED, PLAIN, NOT_STATED, MILLED]
    model, column = kind(ensemble, ENCODING), Goals().column(Capacity(Rates().low))
    found = model.posterior(ENCODING.encode(FORMULAS, processes)).mean[:, column]
    plain = FakeEnsemble(3).capacity(FORMULAS, [Rates().low]).mean(0)[:, 0]
    torch.testing.assert_close(found, plain * torch.tensor([1.25, 0.5, 1.0, 1.25]).double())
