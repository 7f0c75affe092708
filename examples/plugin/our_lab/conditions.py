"""A condition of the process: how hard the pellets of this laboratory are pressed before firing."""

from __future__ import annotations

from drxnet.process import ConditionField

PRESSING = ConditionField(
    "pressing_mpa", "pressure of the pellet", "MPa", number=(1.0, 2000.0), tolerance=20, typical=(300, 150)
)
