"""The table of benchmarks.trust: what is pooled, and what a laboratory of it finds."""

from __future__ import annotations

import pytest

from benchmarks.trust.__main__ import LABELS, MERITS, QUANTITIES, RUNS, WAYS, kept, pooled, print_outside
from benchmarks.trust.campaigns import LABORATORIES, ROUNDS


def row(seed: str, compositions: int, covered: float, z2: float) -> dict[str, str]:
    values = dict(zip(MERITS, (covered, z2, 4.0, 9.0), strict=True))
    quantities = {f"{q}_{m}": str(v) for q in QUANTITIES for m, v in values.items()}
    return {
        "model": "a",
        "offset": "0",
        "kind": "field",
        "seed": seed,
        "way": "now",
        "compositions": str(compositions),
        **quantities,
    }


def test_every_laboratory_counts_alike_however_many_compositions_it_leaves():
    found = pooled([row("0", 10, 1.0, 1.0), row("1", 990, 0.0, 3.0)], "q20")
    assert found["covered"] == pytest.approx(0.5)
    assert found["ratio"] == pytest.approx(2**0.5)
    assert (found["error"], found["spread"]) == (2.0, 3.0)


def test_labels_of_one_laboratory_count_by_their_compositions():
    assert pooled([row("0", 30, 1.0, 1.0), row("0", 10, 0.0, 1.0)], "q20")["covered"] == pytest.approx(0.75)


def test_what_lies_outside_is_told_with_what_laboratories_let_it_lie_between(capsys: pytest.CaptureFixture[str]):
    right = [
        {**row(str(seed), 10, 0.8, 1.0), "rounds": f"{r}", "label": n}
        for r in ROUNDS
        for n in LABELS
        for seed in (0, 1)
    ]
    wrong = [{**right[0], "q20_covered": "0.9"}, {**right[1], "q20_covered": "0.9", "q1000_z2": "2.5"}]
    print_outside([*wrong, *right[2:]])
    head, sure, chance = capsys.readouterr().out.strip().splitlines()
    assert head.startswith("Outside of what was asked lie 2 of 72")
    assert sure == "* after round 0, inside, Q(20 mA/g): 90.0% (90.0%-90.0%)"
    assert chance == "* after round 0, inside, Q(1000 mA/g): 1.32 (1.00-1.58), which may be chance"


def test_what_is_kept_is_of_the_seven_kinds_after_the_stated_rounds():
    rows = kept(RUNS)
    assert rows
    assert {r["kind"] for r in rows} <= set(LABORATORIES)
    assert len(LABORATORIES) == 7
    assert {int(r["rounds"]) for r in rows} == set(ROUNDS)
    assert {r["way"] for r in rows} == set(WAYS)
