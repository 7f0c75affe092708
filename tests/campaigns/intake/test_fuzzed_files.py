"""Damaged, disguised and mistreated files: never a traceback, never a silent number outside physics."""

from __future__ import annotations

import os
import random
import resource
import time
from pathlib import Path

import pytest
import synthetic_cycler as cycler
from absent import folder_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mistreating import SAMPLE, SOURCES, assert_sound, check_mistreated, mistreat

from campaigns.intake.measurement import SampleInfo
from campaigns.intake.rules import MASS_RANGE_MG
from campaigns.intake.validation import check_file


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@given(st.sampled_from(sorted(SOURCES)), st.integers(0, 2**32))
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
def test_mistreated_exports_are_refused_or_right(scratch: Path, source: str, seed: int) -> None:
    path = scratch / "cell.csv"
    path.write_bytes(mistreat(SOURCES[source], seed))
    assert_sound(check_file(path, SAMPLE))


def test_a_file_of_which_no_row_is_left_is_refused_in_words(scratch: Path) -> None:
    path = scratch / "neware_csv.csv"
    path.write_bytes(mistreat(SOURCES["neware csv"], 1999080904))
    refused = check_file(path, SAMPLE)
    assert refused.status == "refused"
    assert "no row holds a current" in " ".join(str(rule) for rule in refused.rules)


@given(st.binary(max_size=3000))
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_bytes_are_refused_or_right(scratch: Path, content: bytes) -> None:
    path = scratch / "bytes"
    path.write_bytes(content)
    assert_sound(check_file(path, SAMPLE))


@given(st.floats() | st.none(), st.text(max_size=20) | st.none(), st.floats() | st.none())
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_sample_is_refused_or_right(
    scratch: Path, mass: float | None, formula: str | None, rate: float | None
) -> None:
    path = scratch / "sample.csv"
    path.write_bytes(SOURCES["arbin csv"])
    checked = check_file(path, SampleInfo(mass, formula, rate, cycler.WINDOW))
    if checked.status != "refused":
        assert mass is not None
        assert MASS_RANGE_MG[0] <= mass <= MASS_RANGE_MG[1]


@pytest.mark.slow
def test_ten_minutes_of_mistreated_files_in_bounded_memory(scratch: Path) -> None:
    """Synthesised files, and the real ones where they are here."""
    minutes = float(os.environ.get("DRX_FUZZ_MINUTES", "10"))
    folder = folder_of("cycler_files")
    real = {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.suffix != ".mps"} if folder else {}
    sources = {**real, **{f"{name}.csv": content for name, content in SOURCES.items()}}
    start, seed = time.monotonic(), int(os.environ.get("DRX_FUZZ_SEED", "0"))
    rng, tried = random.Random(seed), 0
    while time.monotonic() - start < 60 * minutes:
        name = rng.choice(sorted(sources))
        number = rng.randrange(2**32)
        path = scratch / name.replace(" ", "_")
        path.write_bytes(mistreat(sources[name], number))
        try:
            check_mistreated(path)
        except BaseException as error:
            raise AssertionError(f"{name} mistreated with seed {number}: {error!r}") from error
        tried += 1
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    assert peak_mib < 2048, f"{peak_mib:.0f} MiB"
    assert tried > 10 * minutes
