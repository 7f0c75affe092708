"""Other ways to list the compositions of a space, as a chemist would write them today.

Each takes a space and yields after every composition found (or array of them) how many it has found so far; whoever
calls stops when the time is up. All solve the same equations: 2 cations and 4 charges per formula unit in units of 1/D,
element amounts free, metals of two states split into two species. A composition that several assignments of species
make neutral is found several times; the caller is given the number of distinct ones where that matters.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from screening.space import CandidateSpace
from screening.species import Species


def _species(space: CandidateSpace) -> list[Species]:
    return [Species(metal, z) for metal, states in space.states.items() for z in states]


def by_itertools(space: CandidateSpace) -> Iterator[int]:
    """Every combination of amounts of species, filtered."""
    d, species = space.denominator, _species(space)
    most = 2 * d - space.lithium_units[0]
    found = 0
    for amounts in itertools.product(range(most + 1), repeat=len(species)):
        lithium = 2 * d - sum(amounts)
        if lithium in space.lithium_units:
            fluorine = 4 * d - lithium - sum(s.charge * n for s, n in zip(species, amounts, strict=True))
            if fluorine in space.fluorine_units and _enough(space, species, amounts):
                found += 1
        yield found


def _enough(space: CandidateSpace, species: list[Species], amounts: tuple[int, ...]) -> bool:
    present = {s.element for s, n in zip(species, amounts, strict=True) if n}
    return space.k_elements.admits(len(present))


def by_numpy(space: CandidateSpace) -> Iterator[int]:
    """Meshes of the last species for each combination of the first ones, filtered as arrays."""
    d, species = space.denominator, _species(space)
    most = 2 * d - space.lithium_units[0]
    inner = 4 if most <= 20 else 3
    mesh = np.stack(np.meshgrid(*[np.arange(most + 1, dtype=np.int16)] * inner, indexing="ij"), -1).reshape(-1, inner)
    mesh = mesh[mesh.sum(1) <= most]
    outer, last = species[:-inner], species[-inner:]
    elements = list(space.metals)
    held = {e: [i for i, s in enumerate(last) if s.element == e] for e in elements}
    present_last = np.stack([(mesh[:, held[e]] > 0).any(1) for e in elements], 1)
    charge_last = mesh @ np.array([s.charge for s in last])
    found = 0
    for amounts in itertools.product(range(most + 1), repeat=len(outer)):
        if sum(amounts) <= most:
            lithium = 2 * d - sum(amounts) - mesh.sum(1)
            fluorine = 4 * d - lithium - charge_last - sum(s.charge * n for s, n in zip(outer, amounts, strict=True))
            first = {s.element for s, n in zip(outer, amounts, strict=True) if n}
            number = (present_last | np.array([e in first for e in elements])).sum(1)
            good = np.isin(lithium, space.lithium_units) & np.isin(fluorine, space.fluorine_units)
            good &= (number >= space.k_elements.min) & (number <= (space.k_elements.max or 99))
            found += int(good.sum())
        yield found


def by_python_constraint(space: CandidateSpace) -> Iterator[int]:
    """python-constraint2 with exact sums; its solver stops at no time, so one answer comes at the end."""
    from constraint import MaxSumConstraint, MinSumConstraint, Problem

    d, species = space.denominator, _species(space)
    problem = Problem()
    names = [str(s) for s in species]
    most = 2 * d - space.lithium_units[0]
    problem.addVariables(names, list(range(most + 1)))
    problem.addConstraint(MinSumConstraint(2 * d - space.lithium_units[-1]), names)
    problem.addConstraint(MaxSumConstraint(most), names)
    weights = [s.charge - 1 for s in species]
    problem.addConstraint(MinSumConstraint(2 * d - space.fluorine_units[-1], weights), names)
    problem.addConstraint(MaxSumConstraint(2 * d - space.fluorine_units[0], weights), names)
    found = 0
    for solution in problem.getSolutionIter():
        if _enough(space, species, tuple(solution[n] for n in names)):
            found += 1
        yield found


def by_cp_sat(space: CandidateSpace, seconds: float) -> tuple[int, bool]:
    """OR-Tools CP-SAT listing all solutions; the number it found in the time given, and whether those are all."""
    from ortools.sat.python import cp_model

    d, species = space.denominator, _species(space)
    model = cp_model.CpModel()
    most = 2 * d - space.lithium_units[0]
    amounts = [model.new_int_var(0, most, str(s)) for s in species]
    lithium = model.new_int_var(space.lithium_units[0], space.lithium_units[-1], "Li")
    fluorine = model.new_int_var(space.fluorine_units[0], space.fluorine_units[-1], "F")
    model.add(lithium + sum(amounts) == 2 * d)
    model.add(lithium + fluorine + sum(s.charge * n for s, n in zip(species, amounts, strict=True)) == 4 * d)
    present = []
    for metal in space.metals:
        there = model.new_bool_var(metal)
        held = sum(n for s, n in zip(species, amounts, strict=True) if s.element == metal)
        model.add(held >= 1).only_enforce_if(there)
        model.add(held == 0).only_enforce_if(~there)
        present.append(there)
    model.add_linear_constraint(sum(present), space.k_elements.min, space.k_elements.max or len(present))

    class Counter(cp_model.CpSolverSolutionCallback):
        found = 0

        def on_solution_callback(self) -> None:
            self.found += 1

    counter = Counter()
    solver = cp_model.CpSolver()
    solver.parameters.enumerate_all_solutions = True
    solver.parameters.num_workers = 1
    solver.parameters.max_time_in_seconds = seconds
    status = solver.solve(model, counter)
    return counter.found, status == cp_model.OPTIMAL


def by_smact(space: CandidateSpace) -> int:
    """Number of compositions that SMACT's screening passes for the one system of all metals of a space with O and F.

    SMACT takes one oxidation state per element and formula, and has no sites to balance, so only those with 2 cations
    for 2 anions in the ranges of the space count. Amounts are whole units of 1/D; every element is present.
    """
    import smact
    from smact.screening import smact_filter

    d = space.denominator
    symbols = ["Li", *space.metals, "O", "F"]
    states = {"Li": (1,), "O": (-2,), "F": (-1,), **space.states}
    most = 2 * d - space.lithium_units[0] - (len(space.metals) - 1)
    fluorine = [f for f in space.fluorine_units if f]
    stoichs = [
        list(space.lithium_units),
        *[list(range(1, most + 1))] * len(space.metals),
        [2 * d - f for f in fluorine],
        fluorine,
    ]
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "states.txt"
        listed.write_text("".join(f"{s} {' '.join(map(str, states[s]))}\n" for s in symbols))
        passed = smact_filter(
            [smact.Element(s) for s in symbols], stoichs=stoichs, species_unique=False, oxidation_states_set=str(listed)
        )
    amounts = [np.array(row[1]) for row in passed]
    return sum(row[:-2].sum() == 2 * d and row[-2:].sum() == 2 * d for row in amounts)


def agrees_with_pymatgen(space: CandidateSpace, units: np.ndarray) -> list[tuple[bool, bool]]:
    """For rows of whole amounts, whether the space and pymatgen's ``oxi_state_guesses`` each find them neutral.

    Args:
        space: its species are what pymatgen may choose from.
        units: ``n x (Li, F, metals)`` in units of 1/D, sites balanced.
    """
    from pymatgen.core import Composition

    from screening.species import fill_ladder

    d = space.denominator
    override = {m: list(z) for m, z in space.states.items()} | {"Li": [1], "O": [-2], "F": [-1]}
    verdicts = []
    for row in units.astype(int):
        amounts = dict(zip(["Li", "F", *space.metals], row.tolist(), strict=True)) | {"O": int(2 * d - row[1])}
        formula = Composition({s: n for s, n in amounts.items() if n})
        guessed = bool(formula.oxi_state_guesses(oxi_states_override=override, all_oxi_states=False, max_sites=None))
        _, missing = fill_ladder(space.metals, space.states, row[None, 2:], np.array([4 * d - row[0] - row[1]]))
        verdicts.append((bool(missing[0] == 0), guessed))
    return verdicts
