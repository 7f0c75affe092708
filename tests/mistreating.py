"""Files that were damaged on the way, and what must hold of whatever is read from them."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import synthetic_cycler as cycler

from campaigns.intake.measurement import CheckedFile, SampleInfo
from campaigns.intake.readers.recording import ReadOptions
from campaigns.intake.rules import MOST_CURRENT_MA_G, RULES
from campaigns.intake.validation import check_file
from campaigns.ledger.physics import MOST_CAPACITY_MAH_G
from drxnet.composition import Composition

SAMPLE = SampleInfo(cycler.MASS_MG, cycler.COMPOSITION, cycler.RATE_MA_G, cycler.WINDOW)
THEORY = Composition.parse(cycler.COMPOSITION).theoretical_capacity_mah_g
TEST = cycler.cell_test(cycles=1)
SUMMARY = "composition,current_ma_g,v_low,v_high,cycle,capacity_mah_g\nLi1.2Mn0.4Ti0.4O2,20,1.5,4.8,1,250\n"
DIGITISED = "\n".join(f"{q}, {4.7 - q / 80:.4f}" for q in range(0, 250, 8))
SOURCES = {name: export(TEST).encode("latin-1", "replace") for name, (_, export) in cycler.EXPORTS.items()}
SOURCES |= {"summary": SUMMARY.encode(), "digitised": DIGITISED.encode()}

SWAPS = [
    (b"(V)", b"(mV)"), (b"(A)", b"(mA)"), (b"(mA)", b"(A)"), (b"(Ah)", b"(mAh)"), (b"/s", b"/h"), (b"(s)", b"(ms)"),
    (b"/V", b"/mV"), (b"/mA", b"/A"), (b"volt", b"millivolt"), (b"second", b"hour"), (b"Sec", b"Min"), (b".", b","),
    (b",", b";"), (b"\t", b","), (b"\n", b"\r\n"), (b"\n", b"\r"), (b"D", b"C"), (b"-", b""),
    (b"1", b"\xb5"), (b"0", b"\x00"),
]  # fmt: skip


def mistreat(content: bytes, seed: int) -> bytes:
    """Apply one to three kinds of damage."""
    rng = random.Random(seed)
    for _ in range(rng.randint(1, 3)):
        kind = rng.randrange(12)
        lines = content.split(b"\n")
        if kind == 0:
            content = content[: rng.randrange(len(content) + 1)]
        elif kind == 1:
            head = rng.randrange(min(len(lines), 20) + 1)
            body = lines[head:]
            rng.shuffle(body)
            content = b"\n".join(lines[:head] + body)
        elif kind == 2:
            old, new = rng.choice(SWAPS)
            content = content.replace(old, new, rng.choice([-1, 1, 50]))
        elif kind == 3:
            word = rng.choice([b"nan", b"inf", b"-inf", b"1e308", b"", b"#REF!", b"0", b"-1", b"9" * 40])
            for _ in range(rng.choice([1, 5, 200])):
                row = rng.randrange(len(lines))
                cells = lines[row].split(b",")
                cells[rng.randrange(len(cells))] = word
                lines[row] = b",".join(cells)
            content = b"\n".join(lines)
        elif kind == 4:
            encoding = rng.choice(["utf-16", "utf-8-sig", "utf-16-le", "utf-32"])
            content = content.decode("latin-1").encode(encoding)
        elif kind == 5:
            damaged = bytearray(content)
            for _ in range(rng.choice([1, 30])):
                if damaged:
                    damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            content = bytes(damaged)
        elif kind == 6:
            column = rng.randrange(8)
            content = b"\n".join(b",".join(c for i, c in enumerate(line.split(b",")) if i != column) for line in lines)
        elif kind == 7:
            at = rng.randrange(len(lines))
            content = b"\n".join(lines[:at] + lines[: min(30, at)] + lines[at:])
        elif kind == 8:
            step = rng.choice([2, 10, 50])
            content = b"\n".join(lines[:15] + lines[15::step])
        elif kind == 9:
            content = b"\n".join(lines[:15] + lines[15:][::-1])
        elif kind == 10:
            content = content + content
        else:
            content = b"\n".join(line + b"," for line in lines)
    return content


def assert_sound(checked: CheckedFile, most: float = THEORY) -> None:
    """What is not refused is within physics and finite; what is refused says why."""
    assert all(hit.id in RULES and hit.message for hit in checked.rules)
    if checked.status == "refused":
        return
    assert checked.discharges
    for discharge in checked.discharges:
        q = discharge.capacity_mah_g
        assert q is not None
        assert 0 < q <= most + 1e-6
        for volts in (discharge.v_start, discharge.v_end):
            assert volts is None or 0 <= volts <= 6
        if discharge.conditions is not None:
            assert 0 < discharge.conditions.current_ma_g <= MOST_CURRENT_MA_G
        if discharge.profile is not None:
            capacity = discharge.profile.capacity_mah_g
            assert np.isfinite(capacity).all()
            assert (np.diff(capacity) <= 1e-9).all()
            assert (capacity >= 0).all()


PASSING = {
    "neware_cathode_half_1p5-4p4V_navani.ndax": 3.0,
    "biologic_LNMO_SiGr_aurora.mpr": 17.233,
    "biologic_NaCoO2_ratetest_jdb11-4.mpr": 9.0,
    "arbin_LCO_half_navani.res": 3.3,
    "maccor_unsigned_current_cellpy.txt": 17.0,
    "bdf_LNMO_half_timebug_DLR.bdf.csv": 45.0,
}
"""Real file -> mass (mg) with which it passes untouched (the last one with its time unit settled)."""


def settled(name: str) -> ReadOptions:
    """How a real file is to be read."""
    return ReadOptions(time_unit=1 / 3600) if name.startswith("bdf_LNMO") else ReadOptions()


def check_mistreated(path: Path) -> None:
    """Check a mistreated real file with a mass that would let it pass untouched."""
    mass_mg = PASSING.get(path.name)
    sample = SAMPLE if mass_mg is None else SampleInfo(mass_mg)
    checked = check_file(path, sample, settled(path.name))
    assert_sound(checked, THEORY if mass_mg is None else MOST_CAPACITY_MAH_G)
