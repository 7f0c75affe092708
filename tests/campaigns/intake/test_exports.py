from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from campaigns.intake.exports import FORMATS, assemble, charge_step, discharge_step, rest_step
from campaigns.intake.measurement import SampleInfo
from campaigns.intake.validation import check_file


@pytest.mark.parametrize("maker", FORMATS)
def test_what_is_written_is_read_as_it_was(maker: str, tmp_path: Path):
    def falling(share: np.ndarray) -> np.ndarray:
        return 4.75 - 3.25 * share

    test = assemble(rest_step(), charge_step(0.5, 0.04), rest_step(0.1, 4.7, 3), discharge_step(0.48, 0.04, falling))
    test.attrs |= {"mass_mg": 2.0, "electrode": "Li1.2Mn0.4Ti0.4O2"}
    suffix, export = FORMATS[maker]
    path = tmp_path / f"cell{suffix}"
    path.write_bytes(export(test).encode("latin-1"))
    sample = SampleInfo(composition="Li1.2Mn0.4Ti0.4O2", active_mass_mg=2.0, current_ma_g=20.0, window=(1.5, 4.8))
    found = check_file(path, sample)
    assert list(found.rules) == []
    (discharge,) = found.discharges
    assert discharge.capacity_mah_g == pytest.approx(240, rel=0.01)
    assert maker in found.format
