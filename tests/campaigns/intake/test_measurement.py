from __future__ import annotations

from pathlib import Path

import pytest

from campaigns.intake.measurement import CheckedDischarge, CheckedFile, RuleBroken, RuleHit
from drxnet.errors import MeasurementError

E4 = RuleHit("E4", "a.csv cycle 1: discharge ends at 2.1 V", "error")
W4 = RuleHit("W4", "a.csv: sparse", "warning")


@pytest.mark.parametrize(
    ("rules", "status"), [((), "accepted"), ((W4,), "warned"), ((E4,), "refused"), ((E4, W4), "refused")]
)
def test_the_worst_rule_decides_the_status(rules, status):
    assert CheckedFile(Path("a.csv"), "0", "arbin", rules).status == status


def test_a_row_keeps_the_public_keys():
    discharge = CheckedDischarge(1, "cycler", capacity_mah=0.5, rows=80)
    row = CheckedFile(Path("a.csv"), "0", "arbin", (W4,), (discharge,)).as_row()
    assert list(row) == ["file", "format", "status", "rules", "discharges"]
    assert row["rules"] == [{"id": "W4", "message": "a.csv: sparse"}]
    assert list(row["discharges"][0]) == [
        "cycle", "capacity_mah", "capacity_mah_g", "current_ma", "v_start", "v_end", "rows", "all_steps_capacity_mah",
    ]  # fmt: skip
    assert row["discharges"][0]["capacity_mah"] == 0.5


def test_a_broken_rule_is_a_refused_measurement_that_names_it():
    error = RuleBroken("E9", "a.csv: cannot tell decimal comma from separator")
    assert isinstance(error, MeasurementError)
    assert (error.rule, error.exit_code) == ("E9", 3)
    assert str(E4) == "E4: a.csv cycle 1: discharge ends at 2.1 V"
