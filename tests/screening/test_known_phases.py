"""Rocksalts that have been made pass the default filters, or stand in the list of exceptions with a reason."""

from __future__ import annotations

import json
import warnings

import pytest
from click.testing import CliRunner

from campaigns.cli import main
from drxnet.composition import Composition
from drxnet.errors import DRXWarning
from drxnet.literature import published_capacities
from screening.candidates import CandidateList, explain
from screening.domain import known_compositions
from screening.filters import Filters, exceptions
from screening.lattice import Lattice
from screening.space import load_space, parse_space

HE1 = "Li1.2Mn0.1Mg0.1Cr0.3Ti0.2Nb0.1O1.8F0.2"
HE2 = "Li1.2Mn0.1Mg0.1Cr0.15V0.15Ti0.2Nb0.1O1.8F0.2"

AUTHORS: dict[str, dict[str, float]] = {
    # Lun et al. 2021; US 2023/0047457, claims 2, 6 and 7
    "Li1.3Mn0.4Ti0.3O1.7F0.3": {"Mn3+": 0.4, "Ti4+": 0.3},
    "Li1.3Mn0.4Ti0.1Nb0.2O1.7F0.3": {"Mn2+": 0.2, "Mn3+": 0.2, "Ti4+": 0.1, "Nb5+": 0.2},
    "Li1.3Mn0.2Co0.1Cr0.1Ti0.1Nb0.2O1.7F0.3": {
        "Mn2+": 0.1, "Mn3+": 0.1, "Co2+": 0.1, "Cr3+": 0.1, "Ti4+": 0.1, "Nb5+": 0.2,
    },
    # Zhong et al. 2024: bivalent Mn and Mg, trivalent Cr and V
    HE1: {"Mn2+": 0.1, "Mg2+": 0.1, "Cr3+": 0.3, "Ti4+": 0.2, "Nb5+": 0.1},
    HE2: {"Mn2+": 0.1, "Mg2+": 0.1, "Cr3+": 0.15, "V3+": 0.15, "Ti4+": 0.2, "Nb5+": 0.1},
    # Yabuuchi et al. 2015 and 2016
    "Li1.3Mn0.4Nb0.3O2": {"Mn3+": 0.4, "Nb5+": 0.3},
    "Li1.3Fe0.4Nb0.3O2": {"Fe3+": 0.4, "Nb5+": 0.3},
    "Li1.3V0.4Nb0.3O2": {"V3+": 0.4, "Nb5+": 0.3},
    "Li1.2Mn0.4Ti0.4O2": {"Mn3+": 0.4, "Ti4+": 0.4},
}  # fmt: skip


def known() -> list[Composition]:
    listed = [*known_compositions(), Composition.parse(HE1), Composition.parse(HE2)]
    return list(dict.fromkeys([*listed, *(p.composition for p in published_capacities())]))


def explained(composition: Composition | str):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DRXWarning)
        return explain(CandidateList([composition], Filters()), composition)


@pytest.mark.parametrize("composition", known(), ids=str)
def test_a_known_rocksalt_passes_or_is_an_exception_with_a_reason(composition: Composition) -> None:
    found = explained(composition)
    assert found.surplus_charge == pytest.approx(0, abs=2e-3)
    refused = {v.name for v in found.verdicts if not v.passed}
    assert refused == set(found.exceptions)  # neither more than is listed, nor a reason for what passes
    assert all(len(reason) > 40 for reason in found.exceptions.values())


def test_every_exception_is_a_known_rocksalt() -> None:
    assert set(exceptions()) <= set(known())


@pytest.mark.parametrize("formula", list(AUTHORS))
def test_filling_the_ladder_gives_the_valences_of_the_authors(formula: str) -> None:
    species = {str(s): amount for s, amount in explained(formula).species.items() if s.element != "Li"}
    assert species == pytest.approx(AUTHORS[formula], abs=1e-6)


def test_oxygen_is_counted_where_the_threshold_needs_it_and_it_is_said() -> None:
    on_oxygen = explained("Li1.3Fe0.4Nb0.3O2")
    assert (
        "The metals give 0 e per formula unit; the 0.4 e asked for are met by counting oxygen" in on_oxygen.oxygen_redox
    )
    assert "0.6 e" in on_oxygen.oxygen_redox
    values = {v.name: v.value for v in on_oxygen.verdicts}
    assert (values["redox_electrons"], values["oxygen_electrons"]) == pytest.approx((0, 0.6))
    assert explained("Li1.2Mn0.4Ti0.4O2").oxygen_redox == ""
    strict = explain(CandidateList(["Li1.3Fe0.4Nb0.3O2"], Filters(redox_electrons=0.4)), "Li1.3Fe0.4Nb0.3O2")
    assert [v.name for v in strict.verdicts if not v.passed] == ["redox_electrons"]


@pytest.mark.parametrize("formula", ["Li1.3333Mn0.6667O2", "Li1.333Mn0.667O2", "Li2MnO3"])
def test_the_corner_of_figure_4_lies_in_the_shipped_space(formula: str) -> None:
    lattice = Lattice(load_space("lmof"))
    found = explain(lattice, formula)
    assert found.excluded_by == []
    assert found.composition.formula == "Li1.3333Mn0.6667O2"
    assert all(v.passed for v in found.verdicts)


@pytest.mark.parametrize("step", ["1/30", "1/60"])
def test_a_space_in_thirds_ranks_what_it_unranks(step: str) -> None:
    lattice = Lattice(load_space("tiny").with_step(step))
    ranks = lattice.sample_ranks(50, seed=0)
    rows = lattice.unrank(ranks)
    for composition, row, rank in zip(lattice.compositions(rows), rows, ranks.tolist(), strict=True):
        assert sum(a for _, a in composition.cations) == pytest.approx(2, abs=5e-4)
        assert lattice.row(Composition.parse(composition.formula)).tolist() == row.tolist()
        assert lattice.rank(row) == rank


@pytest.mark.parametrize("step", ["1/100", "1/60", "1/30"])
def test_a_space_holds_no_trace_of_a_metal(step: str) -> None:
    space = parse_space(
        {"step": step, "lithium": [1.2, 1.22], "fluorine": 0, "species": ["Mn3+", "Ti4+", "Mg2+"], "k_elements": [2, 3]}
    )
    lattice = Lattice(space)
    metals = lattice.unrank(range(lattice.count))[:, 2:] / lattice.denominator
    assert metals[metals > 0].min() >= 0.02 - 1e-12
    if step == "1/100":
        (reason,) = lattice.why_not(Composition.parse("Li1.2Mn0.4Ti0.39Mg0.01O2"))
        assert reason == "limits: Mg 0.01, allowed 0.02 to 2"


def test_explain_takes_a_formula_with_too_many_cations_on_request() -> None:
    arguments = ["explain", "Li1.35Mn0.7Ti0.1O1.85F0.15", "--space", "tiny", "--format", "json"]
    refused = CliRunner().invoke(main, arguments)
    assert refused.exit_code == 3
    assert "--nonstoichiometric" in refused.output
    taken = CliRunner().invoke(main, [*arguments, "--nonstoichiometric"])
    found = json.loads(taken.stdout)
    assert any("sites: 2.15 cations for 2 anions" in reason for reason in found["excluded_by"])
    assert found["oxidation_states"] == pytest.approx({"Ti": 4, "Mn": 3})
