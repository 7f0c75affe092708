"""The sample table: what the lab says about each file of a folder.

A csv with the columns ``file``, ``proposal`` or ``composition``, ``active_mass_mg``, ``current_ma_g``, ``window``
(such as ``1.5-4.8``, or two columns ``v_low`` and ``v_high``) and ``cell``. Cells may be empty.
"""

from __future__ import annotations

import csv
import difflib
import io
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path

from campaigns.intake.measurement import SampleInfo
from drxnet.errors import ConfigurationError, ImpossibleValue, UsageError

COLUMNS: Mapping[str, str] = {
    "file": "file",
    "filename": "file",
    "path": "file",
    "proposal": "proposal",
    "proposalid": "proposal",
    "composition": "composition",
    "formula": "composition",
    "activemassmg": "mass_mg",
    "massmg": "mass_mg",
    "activemass": "mass_mg",
    "activemassg": "mass_g",
    "massg": "mass_g",
    "current": "current",
    "currentmag": "current",
    "rate": "current",
    "ratemag": "current",
    "window": "window",
    "vlow": "v_low",
    "vmin": "v_low",
    "vhigh": "v_high",
    "vmax": "v_high",
    "cell": "cell",
    "celllabel": "cell",
    "label": "cell",
}
"""Header (letters and digits only) -> meaning. ``current`` is in mA/g."""

_WINDOW = re.compile(r"^\s*(\d[\d.,]*)\s*V?\s*(?:-|–|to|\.\.|/|\s)\s*(\d[\d.,]*)\s*V?\s*$", re.IGNORECASE)


class SampleTable(Mapping[Path, SampleInfo]):
    """What the lab says, by file; a path is found as it stands or, failing that, by its name."""

    def __init__(self, samples: Mapping[Path, SampleInfo]) -> None:
        self._samples = dict(samples)
        self._by_name: dict[str, list[Path]] = {}
        for path in self._samples:
            self._by_name.setdefault(path.name, []).append(path)

    def __getitem__(self, path: Path) -> SampleInfo:
        """Return what is said about a file."""
        resolved = Path(path).resolve()
        if resolved in self._samples:
            return self._samples[resolved]
        named = self._by_name.get(resolved.name, [])
        if len(named) != 1:
            raise KeyError(path)
        return self._samples[named[0]]

    def __iter__(self) -> Iterator[Path]:
        """Iterate over the files, in the order of the table."""
        return iter(self._samples)

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self._samples)

    def for_file(self, path: Path, otherwise: SampleInfo) -> SampleInfo:
        """What is said about a file; what the table leaves empty is taken from ``otherwise``."""
        said = self.get(path)
        if said is None:
            return otherwise
        gaps = {f.name: getattr(otherwise, f.name) for f in fields(said) if getattr(said, f.name) is None}
        return replace(said, **gaps)


def read_samples(path: str | Path) -> SampleTable:
    """Read a sample table.

    Args:
        path: csv, separated by commas, semicolons or tabs. File names are relative to it.

    Raises:
        ConfigurationError: no column ``file``, a column that looks misspelt, a file named twice, or a value
            that is no number; the message names the row.
    """
    path = Path(path)
    lines = list(csv.reader(io.StringIO(_text(path)), delimiter=_delimiter(_text(path))))
    if not lines:
        raise ConfigurationError(f"{path.name}: the sample table is empty.")
    meanings = [_meaning(path.name, cell) for cell in lines[0]]
    if "file" not in meanings:
        raise ConfigurationError(f"{path.name}: a sample table needs a column 'file'. Got {', '.join(lines[0])}.")
    samples: dict[Path, SampleInfo] = {}
    for number, cells in enumerate(lines[1:], start=2):
        values = {m: c.strip() for m, c in zip(meanings, cells, strict=False) if m and c.strip()}
        if not values:
            continue
        if "file" not in values:
            raise ConfigurationError(f"{path.name}, row {number}: names no file.")
        file = (path.parent / values["file"]).resolve()
        if file in samples:
            raise ConfigurationError(f"{path.name}, row {number}: {values['file']} stands in the table twice.")
        samples[file] = _sample(f"{path.name}, row {number}", values)
    if not samples:
        raise ConfigurationError(f"{path.name}: no rows below the header.")
    return SampleTable(samples)


def parse_window(text: str) -> tuple[float, float]:
    """Lower and upper cut-off (V) of a text such as ``1.5-4.8``.

    Raises:
        ImpossibleValue: not two voltages, the lower one first.
    """
    found = _WINDOW.match(text)
    if found is None:
        raise ImpossibleValue(f"A window must read like 1.5-4.8. Got {text!r}.")
    low, high = (float(v.replace(",", ".")) for v in found.groups())
    if not 0 <= low < high:
        raise ImpossibleValue(f"The lower cut-off must lie below the upper one. Got {text!r}.")
    return low, high


def _sample(where: str, values: Mapping[str, str]) -> SampleInfo:
    mass = _number(where, "active_mass_mg", values.get("mass_mg"))
    grams = _number(where, "active_mass_g", values.get("mass_g"))
    window = None
    if "window" in values:
        try:
            window = parse_window(values["window"])
        except ValueError as error:
            raise ConfigurationError(f"{where}: {error}") from None
    elif "v_low" in values or "v_high" in values:
        low, high = (_number(where, key, values.get(key)) for key in ("v_low", "v_high"))
        if low is None or high is None or low >= high:
            raise ConfigurationError(f"{where}: v_low and v_high must both be given, the lower first.")
        window = (low, high)
    sample = SampleInfo(
        active_mass_mg=mass if mass is not None else (None if grams is None else grams * 1e3),
        composition=values.get("composition"),
        current_ma_g=_number(where, "current", values.get("current")),
        window=window,
        cell=values.get("cell"),
        proposal=values.get("proposal"),
    )
    try:
        sample.check_conditions()
    except UsageError as error:
        raise ConfigurationError(f"{where}: {error}") from None
    return sample


def _number(where: str, column: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigurationError(f"{where}: {column} must be a number. Got {text!r}.")
    return value


def _meaning(name: str, cell: str) -> str | None:
    plain = re.sub(r"[^a-z0-9]", "", cell.lower())
    if plain in COLUMNS:
        return COLUMNS[plain]
    close = difflib.get_close_matches(plain, list(COLUMNS), n=1, cutoff=0.85)
    if close:
        raise ConfigurationError(f"{name}: column {cell.strip()!r} is not known; did you mean {close[0]!r}?")
    return None


def _delimiter(text: str) -> str:
    header = text.split("\n", 1)[0]
    return max(",;\t", key=header.count)


def _text(path: Path) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")
