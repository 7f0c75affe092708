"""Cells of a table as numbers: decimal signs, thousands separators, minus signs, durations, dates."""

from __future__ import annotations

import math
import re
import warnings
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from campaigns.intake.measurement import RuleBroken
from campaigns.intake.readers import words

SINCE_1970_S = (3e8, 5e9)
"""Seconds between which a time is one since 1970: no test lasts as long, and no dates beyond are those of tests."""

NO_VALUE = ("", "nan", "none", "null", "n/a", "na", "-", "--", "---", "<na>") + tuple(
    f"#{error}" for error in ("ref!", "div/0!", "n/a", "value!", "name?", "num!", "null!")
)
"""What stands in a cell without a value, errors of a spreadsheet among them."""

CODES, CODE_FACTOR = np.array([10.0**n - 1 for n in range(3, 8)]), 100.0
"""Numbers (999, 9999, ...) that stand for no value where no column is negative, or so many times what is usual."""

HUGE = 1e30
"""No column of any unit holds numbers beyond."""

_DIGITS = {first + digit: str(digit) for first in map(ord, "０٠۰०") for digit in range(10)}
_MINUS = dict.fromkeys(map(ord, "−–—‒﹣－\u2010\u2011"), "-") | dict.fromkeys(map(ord, "．٫·"), ".") | _DIGITS
"""Signs and digits of other scripts, and what Python reads for them."""

_SPACES = dict.fromkeys(map(ord, " \u00a0\u2007\u2009\u202f'’\"\t"), None)
"""What stands between thousands besides the other decimal sign, and quotes that were left."""

_EXPONENT = r"(?:[eE][+-]?\d+)?"
_BY_COMMA = re.compile(rf"[+-]?\d{{1,3}}(?:,\d{{3}})+(?:\.\d*)?{_EXPONENT}")
_BY_POINT = re.compile(rf"[+-]?\d{{1,3}}(?:\.\d{{3}})+(?:,\d*)?{_EXPONENT}")
_COMMA = re.compile(rf"[+-]?\d*,\d+{_EXPONENT}")
_POINT = re.compile(rf"[+-]?\d*\.\d+{_EXPONENT}")
_EITHER = re.compile(r"[+-]?[1-9]\d{0,2}[.,]\d{3}")
"""A decimal, or a thousand: one sign, three digits behind it and one to three, no zero first, before it."""

_DURATION = re.compile(
    r"(?:(\d+)\s*(?:[dDjJtT][a-zA-Z]*|天|日)[\s,.:-]*|(\d+)\.(?=\d+:\d+:))?(?:(\d+):)?(\d+):(\d+(?:[.,]\d+)?(?:[eE]-\d+)?)"
    r"\s*([aApP][mM])?"
)
_TWO_PARTS = re.compile(r"\d+:\d{2}")
_MONTH = "(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_CLOCK_TEXT = re.compile(
    r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,? )?"
    r"(?:\d{1,4}[-/.,]\d{1,2}[-/.,]\d{1,4}|\d{4}年|\d{8}T\d{6}"
    rf"|\d{{1,2}}[-/. ]{_MONTH}[-/., ]|{_MONTH} +\d{{1,2}},? \d)",
    re.IGNORECASE,
)
_DAY_OR_MONTH = re.compile(r"^(\d{1,2})([-/.,])(\d{1,2})\2(\d{2,4})")


def tidy(text: str, decimal: str = ".") -> str:
    """A number as Python reads it: ``−1.234,5`` with a decimal comma is ``-1234.5``; what is no number stays."""
    plain = text.translate(_MINUS).translate(_SPACES).lstrip("=")
    if decimal == ",":
        if _BY_POINT.fullmatch(plain):
            plain = plain.replace(".", "")
        return plain.replace(",", ".") if _COMMA.fullmatch(plain) else plain
    return plain.replace(",", "") if _BY_COMMA.fullmatch(plain) else plain


def without_codes(found: np.ndarray, *, signed: bool) -> tuple[np.ndarray, int]:
    """Numbers without those that stand for no value, such as -999, and how many these were.

    Args:
        found: numbers of a column.
        signed: whether negative ones are possible.
    """
    with np.errstate(invalid="ignore"):
        extremes = np.array([np.fmin.reduce(found, initial=0.0), np.fmax.reduce(found, initial=0.0)])
    if not np.isin(np.abs(extremes), CODES).any():
        return found, 0
    code = np.isin(np.abs(found), CODES) & (np.abs(found) > CODE_FACTOR * float(np.nanmedian(np.abs(found))))
    if not signed:
        code |= np.isin(found, -CODES)
    return np.where(code, np.nan, found), int(code.sum())


def same(one: str, other: str) -> bool:
    """Whether two cells say the same, as numbers or else but for their spaces."""
    try:
        return float(tidy(one)) == float(tidy(other))
    except ValueError:
        return one.translate(_SPACES) == other.translate(_SPACES)


def numbers(series: pd.Series, decimal: str = ".") -> np.ndarray:
    """Numbers of a column; NaN for what is none, infinite beyond :data:`HUGE`."""
    if pd.api.types.is_bool_dtype(series):
        return np.full(len(series), np.nan)
    found = pd.to_numeric(series, errors="coerce").to_numpy(float, na_value=np.nan)
    if not pd.api.types.is_numeric_dtype(series):
        found = found.copy()
        odd = np.flatnonzero(np.isnan(found) if decimal == "." else np.ones(len(found), bool))
        if len(odd):
            kinds, texts = pd.factorize(series.iloc[odd].astype(str))
            tidied = pd.to_numeric(pd.Series([tidy(text, decimal) for text in texts]), errors="coerce")
            found[odd] = np.append(tidied.to_numpy(float, na_value=np.nan), np.nan)[kinds]
    with np.errstate(invalid="ignore"):
        huge = (found > HUGE) | (found < -HUGE)
    return np.where(huge, np.copysign(np.inf, found), found) if huge.any() else found


def decimal_sign(cells: Sequence[str]) -> str | None:
    """Decimal sign of numbers as they are written; None where two signs stand against each other.

    A number with both signs tells by the last one; ``1,234`` alone may be either and is left to the others.
    """
    seen = Counter(_sign_of(cell.translate(_MINUS).translate(_SPACES)) for cell in cells)
    for comma, point in ((seen[","], seen["."]), (seen["either ,"], seen["either ."])):
        if comma or point:
            return None if comma and point else "," if comma else "."
    return "."


def may_be_thousands(text: str, sign: str = ",") -> bool:
    """Whether a number such as ``1,000`` may be a thousand as well as a decimal."""
    return sign in text and bool(_EITHER.fullmatch(text.translate(_MINUS).translate(_SPACES)))


def _sign_of(text: str) -> str:
    """Decimal sign of one number; ``either ,`` where it may separate thousands as well, empty where there is none."""
    if "," in text and "." in text:
        return "." if _BY_COMMA.fullmatch(text) else "," if _BY_POINT.fullmatch(text) else ""
    if _EITHER.fullmatch(text):
        return "either ," if "," in text else "either ."
    return "," if _COMMA.fullmatch(text) else "." if _POINT.fullmatch(text) else ""


def written_step(cells: Sequence[str], decimal: str = ".") -> float | None:
    """Smallest difference that numbers written like these can show; None where none is a number."""
    places = [place for cell in cells if (place := _last_place(tidy(cell.strip(), decimal))) is not None]
    if not places:
        zeros = [len(c.strip().rpartition("," if decimal == "," else ".")[2]) for c in cells if c.strip()]
        return 10.0 ** -max(zeros) if zeros else None
    return float(10.0 ** -max(places))


def _last_place(text: str) -> int | None:
    """Places behind the decimal point of the last digit; None for what is no number, or 0."""
    found = re.fullmatch(r"[+-]?(?:\d+(?:\.(\d*))?|\.(\d+))(?:[eE]([+-]?\d{1,3}))?", text)
    if not found or float(text) == 0 or not math.isfinite(float(text)):
        return None
    return len(found[1] or found[2] or "") - int(found[3] or 0)


def written_digits(series: pd.Series, step: float | None) -> int | None:
    """Significant digits of a typical value; None where nothing tells.

    Args:
        series: the column.
        step: of :func:`written_step` for text; None for a sheet, whose cells do not keep how they were written.
    """
    values = np.abs(numbers(series.iloc[:20_000]))
    values = values[np.isfinite(values) & (values > 0)]
    if not len(values):
        return None
    typical = float(np.median(values))
    if step is not None:
        return max(1, int(np.floor(np.log10(max(typical, step)) + 1e-9) - np.round(np.log10(step))) + 1)
    levels = np.unique(values)
    if len(levels) < 3:
        return None
    smallest = float(np.min(np.diff(levels)))
    return max(1, int(np.floor(np.log10(typical / smallest))) + 1) if smallest > 1e-9 * typical else None


def state_codes(series: pd.Series) -> np.ndarray:
    """CHARGE, REST, DISCHARGE or UNKNOWN for each cell of a state column."""
    codes, texts = pd.factorize(series.astype(str))
    return np.array([words.state_code(text) for text in texts] or [words.UNKNOWN], np.int8)[codes]


def looks_like_durations(series: pd.Series) -> bool:
    """Whether most of the first filled cells read ``12:30:01``; a remark with a colon is none."""
    sample = _first_filled(series)
    return bool(len(sample)) and sum(bool(_DURATION.fullmatch(text)) for text in sample) > 0.5 * len(sample)


def two_part_durations(series: pd.Series) -> bool:
    """Whether durations are written in two parts without decimals: hours and minutes, or minutes and seconds."""
    sample = _first_filled(series)
    return bool(len(sample)) and sum(bool(_TWO_PARTS.fullmatch(text)) for text in sample) > 0.5 * len(sample)


def _first_filled(series: pd.Series, count: int = 200) -> list[str]:
    texts = (text.strip() for text in series.head(10 * count).dropna().astype(str))
    return [text for text in texts if text][:count]


def durations(series: pd.Series, hours_first: bool = False) -> np.ndarray:
    """Seconds of a column such as ``0d 06:00:00.04``, ``12:30:01`` or ``36:00:00``; NaN for what is none.

    Args:
        series: of text.
        hours_first: ``12:30`` are hours and minutes, not minutes and seconds.
    """
    text = np.array([str(word) for word in series.tolist()], np.str_)  # a missing cell would cut all to its own length
    seconds = np.full(len(text), np.nan)
    lengths = np.char.str_len(text)
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        seconds[rows] = _clock_digits(text[rows].astype(f"U{max(int(length), 1)}"))
    odd = np.flatnonzero(np.isnan(seconds))
    seconds[odd] = [_duration(word, hours_first) for word in text[odd]]
    return seconds


def _clock_digits(text: np.ndarray) -> np.ndarray:
    """Seconds of texts of one length and one form ``[h..]h:mm:ss[.f..]``; NaN where they have another form."""
    form = re.fullmatch(r"(\d+):(\d\d):(\d\d)([.,]\d+)?", str(text[0]))
    if form is None:
        return np.full(len(text), np.nan)
    letters = text.view(np.uint32).reshape(len(text), -1).astype(np.int64)
    digits = letters - ord("0")
    numeric = [i for i, letter in enumerate(str(text[0])) if letter.isdigit()]
    others = [i for i in range(letters.shape[1]) if i not in numeric]
    alike = ((digits[:, numeric] >= 0) & (digits[:, numeric] <= 9)).all(1) & (
        letters[:, others] == letters[0, others]
    ).all(1)
    seconds = np.zeros(len(text))
    for group, scale in ((1, 3600.0), (2, 60.0), (3, 1.0)):
        for place, i in enumerate(reversed(range(*form.span(group)))):
            seconds += digits[:, i] * scale * 10.0**place
    for place, i in enumerate(range(form.end(3) + 1, letters.shape[1]), start=1):
        seconds += digits[:, i] * 10.0**-place
    return np.where(alike, seconds, np.nan)


def _duration(word: str, hours_first: bool) -> float:
    found = _DURATION.fullmatch(word.strip())
    if found is None:
        return float("nan")
    days, dotted, hours, minutes, seconds = (float((part or "0").replace(",", ".")) for part in found.groups()[:5])
    if found[3] is None and hours_first:
        hours, minutes, seconds = minutes, seconds, 0.0
    if found[6]:
        hours = hours % 12 + (12 if found[6].lower() == "pm" else 0)
    return (days + dotted) * 86400 + hours * 3600 + minutes * 60 + seconds


def clock(series: pd.Series) -> np.ndarray | None:
    """Wall clock in seconds, or None where it does not read as dates."""
    if pd.api.types.is_datetime64_any_dtype(series):
        stamps = series
    elif pd.api.types.is_numeric_dtype(series):
        return _numeric_clock(numbers(series))
    else:
        sample = series.dropna().astype(str).head(5)
        if sample.empty or not sample.str.strip().str.match(_CLOCK_TEXT).all():
            return None
        stamps = _dates(series.astype(str).str.strip())
    if not stamps.notna().any():
        return None
    if getattr(stamps.dt, "tz", None) is not None:
        stamps = stamps.dt.tz_localize(None)
    seconds = (stamps - stamps.dropna().iloc[0]).dt.total_seconds()
    return seconds.to_numpy(float, na_value=np.nan)


def _dates(text: pd.Series) -> pd.Series:
    """Dates of a column; day and month in the order in which they make the shorter test that runs forward."""
    plain = text.str.replace(r"^(\d{4})年(\d{1,2})月(\d{1,2})日", r"\1-\2-\3", regex=True)
    plain = plain.str.replace(r"^(\d{1,2}),(\d{1,2}),(\d{2,4})", r"\1.\2.\3", regex=True)
    plain = plain.str.replace(r"\s[A-Z]{3,5}$", "", regex=True)  # CET
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not plain.head(1).str.match(_DAY_OR_MONTH).any():
            return pd.to_datetime(plain, errors="coerce", format="mixed", utc=True)
        first_day = plain.iloc[0][2] in ".," or plain.iloc[0][1] in ".,"
        read = [
            pd.to_datetime(plain, errors="coerce", format="mixed", dayfirst=d, utc=True)
            for d in (first_day, not first_day)
        ]

    def oddity(stamps: pd.Series) -> tuple[int, float]:
        steps = stamps.dropna().diff().dt.total_seconds()
        span = (stamps.max() - stamps.min()).total_seconds() if stamps.notna().any() else np.inf
        return int(stamps.isna().sum() + (steps < 0).sum()), float(span)

    return min(read, key=oddity)


def _numeric_clock(stamps: np.ndarray) -> np.ndarray | None:
    """Seconds of dates that are numbers: days since 1900, seconds or milliseconds since 1970; None for others."""
    typical = float(np.median(stamps[np.isfinite(stamps)])) if np.isfinite(stamps).any() else 0.0
    for low, high, seconds in ((2e4, 8e4, 86400.0), (*SINCE_1970_S, 1.0), (3e11, 5e12, 1e-3)):
        if low < typical < high:
            return (stamps - stamps[np.isfinite(stamps)][0]) * seconds
    return None


def refuse_words(file_name: str, series: pd.Series, found: np.ndarray, header: str, least: float) -> None:
    """Refuse a column of which too few filled cells are numbers.

    Raises:
        RuleBroken: E9, naming the first cell that is none.
    """
    if pd.api.types.is_numeric_dtype(series):
        return
    text = series.astype(str).str.strip()
    empty = series.isna() | text.str.lower().isin(NO_VALUE)
    no_number = np.isnan(found) & ~empty.to_numpy(bool)
    filled = int((~empty).sum())
    if filled and no_number.sum() > (1 - least) * filled:
        first = int(np.flatnonzero(no_number)[0])
        raise RuleBroken(
            "E9",
            f"{file_name}: column {header!r} should hold numbers; row {first + 1} below the header says "
            f"{text.iloc[first]!r:.40}.",
        )
