"""What the benchmark on simulated laboratories counts."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.choose.__main__ import MERITS, interval, merits, print_stopping, print_table, ratio, regrets, stopped
from benchmarks.choose.campaigns import Laboratory
from screening.prospect import WORTHWHILE


@pytest.fixture
def laboratory() -> Laboratory:
    """A hundred candidates whose retention grows with the row; the last ten miss the capacity, row 89 never forms."""
    low = np.where(np.arange(100) < 90, 250.0, 200.0)
    failure = np.zeros(100)
    failure[89] = 1.0
    return Laboratory(np.stack([low, low * np.arange(100) / 100], 1), failure, seed=0)


def test_regret_counts_what_is_feasible_and_forms(laboratory: Laboratory) -> None:
    history = [list(range(8 * i, 8 * i + 8)) for i in range(11)] + [[88, 89, 90, 91]]
    found = regrets(laboratory, history)
    assert found[0] == pytest.approx(0.88 - 0.07)
    assert found[-1] == 0.0
    assert found == sorted(found, reverse=True)
    told = merits(laboratory, history)
    assert told["regret_8"] == found[0]
    assert told["feasible_8"] == 8
    assert told["failed_later"] == pytest.approx(1 / (9 * 8 + 4))


def test_stopping_heeds_the_first_round_that_is_not_worth_its_cells(capsys: pytest.CaptureFixture[str]) -> None:
    sure, doubtful = WORTHWHILE + 0.1, WORTHWHILE / 2
    prospects = [None, [0.05, 0.1, 0.03, sure], [0.01, 0.02, 0.03, doubtful], [0.02, 0.03, 0.03, sure]]
    run = {
        "kind": "field",
        "strategy": "default",
        "prospects": json.dumps(prospects),
        "regrets": "[0.2, 0.05, 0.03, 0.0]",
    }
    assert stopped(run) == pytest.approx((0.5, 0.05))
    assert stopped({**run, "prospects": json.dumps(prospects[:2] * 2)}) == pytest.approx((0.0, 0.0))
    print_stopping([run, {**run, "prospects": ""}], ("field", "member"))
    assert "| all | 1 | 50% | 0% | 0.0500 |" in capsys.readouterr().out


def test_intervals_hold_their_mean() -> None:
    values = np.random.default_rng(0).normal(1.0, 0.1, 30)
    mean, low, high = interval(values)
    assert low < mean < high
    assert ratio(2 * values, values)[0] == pytest.approx(2.0)


def test_a_short_run_tells_of_the_cells_that_it_has_and_gives_way_to_a_longer_one(
    laboratory: Laboratory, capsys: pytest.CaptureFixture[str]
) -> None:
    history = [list(range(8 * i, 8 * i + 8)) for i in range(8)]
    assert set(merits(laboratory, history)) == set(MERITS)
    assert set(merits(laboratory, history[:2])) == set(MERITS[:4]) | {"feasible_8", "dead_8"}

    def run(name: str, seed: str, rounds: int, worse: float = 0.0) -> dict[str, str]:
        found = {merit: f"{value + worse}" for merit, value in merits(laboratory, history[:rounds]).items()}
        told = {"kind": "field", "strategy": name, "seed": seed, "rows": json.dumps(history[:rounds])}
        return {merit: "" for merit in MERITS} | found | told

    runs = [run("default", "0", 8), run("default", "0", 2, worse=5.0), run("default", "1", 2), run("random", "1", 8)]
    print_table(runs, ("field", "member"), ("default", "random"))
    default, chance = capsys.readouterr().out.strip().splitlines()[-2:]
    assert default.startswith("| default | 2 (1 whole) | 0.810 | 0.730 | 0.570 | 0.250 |")
    assert chance.startswith("| random | 1 | 0.810 |")
    assert chance.endswith("| 1.00 (1.00-1.00), 1.00 (1.00-1.00) | 0.00 (0.00-0.00), - |")
