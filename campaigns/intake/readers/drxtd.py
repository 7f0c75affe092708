"""DRX-TD json and csv; the format itself is in :mod:`drxnet.drxtd`."""

from __future__ import annotations

import re
from functools import partial

from campaigns.intake.measurement import RuleBroken
from campaigns.intake.readers.recording import DRXTDTests, Reader, ReadOptions
from campaigns.intake.readers.unpacking import Head, whole_content
from drxnet import drxtd
from drxnet.errors import CompositionError, MeasurementError
from drxnet.progress import Progress

JSON, CSV = "drx-td json", "drx-td csv"
_JSON_START = re.compile(r"[\ufeff\s]*(?:\{|\[\s*[\[{\"\]])")
_CSV_HEADER = re.compile(r"^\W*material_id\W.*\bVii\b")


def _is_json(head: Head) -> bool:
    return head.is_text and bool(_JSON_START.match(head.text))


def _is_csv(head: Head) -> bool:
    return head.is_text and bool(_CSV_HEADER.match(head.lines[0]))


def _read(name: str, head: Head, options: ReadOptions, progress: Progress) -> DRXTDTests:
    whole_content(head)  # refuses damaged compression and what is too large
    try:
        return DRXTDTests(name, drxtd.read(head.path))
    except CompositionError as error:
        raise RuleBroken("E10", str(error)) from None
    except MeasurementError as error:
        raise RuleBroken("E11" if "finite" in str(error) else "E9", str(error)) from None


READERS = (
    Reader(JSON, _is_json, partial(_read, JSON), (".json",)),
    Reader(CSV, _is_csv, partial(_read, CSV), (".csv",)),
)
