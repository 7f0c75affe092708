"""Predict tables of cases that are longer than memory: read in blocks, predicted in blocks, written row by row."""

from __future__ import annotations

import csv
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from campaigns.cli.console import say
from drxnet.composition import LEAST_METAL, Composition
from drxnet.discharge import CyclingConditions
from drxnet.errors import CompositionError, DataRefused, DRXWarning, UsageError
from drxnet.files import new_file
from drxnet.formulas import CompositionTable, parse_formulas
from drxnet.names import nearest
from drxnet.process import FIELDS, Process
from drxnet.progress import Progress
from drxnet.text import csv_table, delimiter_of

if TYPE_CHECKING:
    from drxnet.ensemble import Ensemble
    from drxnet.uncertainty import Calibration

Case = tuple[Composition, CyclingConditions]

CASE_COLUMNS = ("composition", "current_ma_g", "v_low", "v_high", "cycle")
ENDINGS = (".csv", ".jsonl", ".parquet")

_BLOCK = 8192
_MOST_TOLD = 4


class CaseList:
    """Every formula under every condition, in one block."""

    def __init__(
        self, formulas: Sequence[str], conditions: Sequence[CyclingConditions], *, nonstoichiometric: bool = False
    ) -> None:
        """Read the formulas.

        Raises:
            CompositionError: one is no composition.
        """
        compositions = [Composition.parse(f, nonstoichiometric=nonstoichiometric) for f in formulas]
        self.samples = [(composition, c) for composition in compositions for c in conditions]
        self.count = len(self.samples)
        self.sometimes: tuple[str, ...] = ("composition_asked",) if any(c.traces for c in compositions) else ()

    def __iter__(self) -> Iterator[list[Case]]:
        """Yield the cases in one block."""
        yield self.samples


class CaseFile:
    """A CSV of cases. It is read twice: to check all of it before anything is predicted, and to predict."""

    def __init__(self, path: Path, *, nonstoichiometric: bool = False) -> None:
        """Check every row.

        Raises:
            DataRefused: a column is missing, or a row is no case; the message names it.
        """
        self.path, self.nonstoichiometric = path, nonstoichiometric
        self._conditions: dict[tuple[str, ...], CyclingConditions] = {}
        self.count, traced = 0, False
        self.stated: tuple[str, ...] = ()
        """Conditions of the process that have a column."""

        self.samples: list[Case] = []
        """One composition for each set of elements and each set of conditions, to check them all by."""

        seen: set[Any] = set()
        for block in self._blocks():
            self.count += len(block)
            for elements, row, conditions in block.kinds():
                if not {elements, conditions} <= seen:
                    self.samples.append((block.composition(row), conditions))
                seen |= {elements, conditions}
            traced |= block.traced
        if not self.count:
            raise _no_cases(path, "it has no rows")
        self.sometimes: tuple[str, ...] = (*(["composition_asked"] if traced else []), *self.stated)
        """Columns that the rows of predictions may have or not."""

    def __iter__(self) -> Iterator[list[Case]]:
        """Yield the cases in blocks."""
        for block in self._blocks():
            yield [(block.composition(i), conditions) for i, conditions in enumerate(block.conditions)]

    def _blocks(self) -> Iterator[_Block]:
        try:
            with self.path.open(newline="", encoding="utf-8-sig") as file:
                delimiter = delimiter_of(file.readline())
                file.seek(0)
                reader = csv.reader(file, delimiter=delimiter)
                header = next(reader, [])
                if missing := [column for column in CASE_COLUMNS if column not in header]:
                    raise _no_cases(self.path, _missing(missing, header))
                self.stated = tuple(name for name in FIELDS if name in header)
                places = [header.index(column) for column in (*CASE_COLUMNS, *self.stated)]
                rows: list[list[str]] = []
                number = 2
                for row in reader:
                    if row:
                        rows.append(row)
                    if len(rows) == _BLOCK:
                        yield self._block(rows, places, number)
                        number += len(rows)
                        rows = []
                if rows:
                    yield self._block(rows, places, number)
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataRefused(f"{self.path}: not a CSV text file ({error}).") from None

    def _block(self, rows: Sequence[Sequence[str]], places: Sequence[int], first: int) -> _Block:
        conditions = []
        for number, row in enumerate(rows, start=first):
            try:
                key = tuple(row[place] for place in places[1:])
                if key not in self._conditions:
                    current, low, high, cycle = map(float, key[:4])
                    process = Process.of(dict(zip(self.stated, key[4:], strict=True)))
                    self._conditions[key] = CyclingConditions(current, low, high, int(cycle), process)
                conditions.append(self._conditions[key])
            except (ValueError, IndexError, OverflowError) as error:
                raise DataRefused(f"{self.path}, row {number}: {error}") from None
        formulas = [row[places[0]] for row in rows]
        try:
            table = parse_formulas(
                formulas, lambda i: f"{self.path}, row {first + i}", nonstoichiometric=self.nonstoichiometric
            )
        except CompositionError as error:
            raise DataRefused(str(error)) from None
        return _Block(table, conditions)


Cases = CaseFile | CaseList


class _Block:
    def __init__(self, table: CompositionTable, conditions: list[CyclingConditions]) -> None:
        self.table, self.conditions = table, conditions
        self.composition: Callable[[int], Composition] = table.composition
        self.traced = bool(((table.cations[:, 1:] > 0) & (table.cations[:, 1:] < LEAST_METAL)).any())

    def __len__(self) -> int:
        return len(self.conditions)

    def kinds(self) -> Iterator[tuple[bytes, int, CyclingConditions]]:
        """Yield what tells the elements of a row apart, the row, and its conditions; each pair once."""
        elements = self.table.cations > 0
        names = [f"{self.table.symbols}".encode() + row.tobytes() for row in elements]
        first = {pair: row for row, pair in reversed(list(enumerate(zip(names, self.conditions, strict=True))))}
        yield from ((name, row, conditions) for (name, conditions), row in first.items())


def _no_cases(path: Path, what: str) -> DataRefused:
    return DataRefused(f"{path}: must hold the columns {', '.join(CASE_COLUMNS)} and at least one row; {what}.")


def _missing(columns: Sequence[str], header: Sequence[str]) -> str:
    """Say which columns are missing, and which ones of the header may be meant for them."""
    others = [name for name in header if name not in CASE_COLUMNS]
    meant = [f"{near!r} for {column}" for column in columns if (near := nearest(column, others)) is not None]
    missing = f"the columns {', '.join(columns)} are missing"
    return f"{missing} (is {', '.join(meant)} meant?)" if meant else missing


def check_target(path: Path) -> None:
    """Refuse a file for rows that cannot be written.

    Raises:
        UsageError: its ending says no form, its folder is not there, or Parquet has no writer here.
    """
    if path.suffix.lower() not in ENDINGS:
        raise UsageError(f"{path}: rows are written to a file that ends in {', '.join(ENDINGS)}.")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: its folder does not exist.")
    if path.suffix.lower() == ".parquet":
        try:
            import pyarrow  # noqa: F401 - is it there?
        except ImportError:
            raise UsageError(
                "Parquet needs the extra `parquet` (pip install 'drx-screen[parquet]'); or write .csv or .jsonl."
            ) from None


def predict_to_file(
    ensemble: Ensemble,
    cases: Cases,
    target: Path,
    *,
    profile: bool,
    allow_unseen: bool,
    calibration: Calibration | None = None,
    progress: Progress,
) -> None:
    """Predict blocks of cases and write their rows, so that no more than one block is held; the file appears whole.

    Args:
        ensemble: who predicts; from many cases on by the engine that is fastest for them.
        cases: all of them.
        target: where to; its ending says the form.
        profile: with the whole profile (not in CSV, which holds single values).
        allow_unseen: predict for elements outside the model's too.
        calibration: of the ensemble, for intervals and domain labels.
        progress: told of cases.
    """
    from drxnet.prediction import check_domain, predict_cases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DRXWarning)  # said when it is predicted
        known = [(composition.without_traces(), conditions) for composition, conditions in cases.samples]
        check_domain(ensemble, known, allow_unseen=allow_unseen)
    ensemble = ensemble.with_engine(ensemble.engine_for(cases.count))
    done, told = 0, dict[str, None]()
    with new_file(target) as partial, _writer(partial, target.suffix.lower(), cases.sometimes) as write:
        for block in cases:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always", DRXWarning)
                predictions = predict_cases(ensemble, block, allow_unseen=allow_unseen, calibration=calibration)
            told.update((str(warning.message), None) for warning in said)
            write([prediction.row(profile=profile) for prediction in predictions])
            done += len(block)
            progress(done, cases.count)
    for text in list(told)[:_MOST_TOLD]:
        warnings.warn(text, DRXWarning, stacklevel=2)
    if len(told) > _MOST_TOLD:
        say(f"{len(told) - _MOST_TOLD:,} more predictions like these.")


@contextmanager
def _writer(partial: Path, form: str, sometimes: Sequence[str]) -> Iterator[Callable[[list[dict[str, Any]]], None]]:
    if form == ".parquet":
        with _parquet(partial, sometimes) as write:
            yield write
        return
    with partial.open("w", encoding="utf-8", newline="") as file:
        if form == ".csv":
            first = True

            def write(rows: list[dict[str, Any]]) -> None:
                nonlocal first
                text = csv_table(rows, _columns(rows[0], sometimes))
                file.write(text if first else text.partition("\n")[2])
                first = False
        else:

            def write(rows: list[dict[str, Any]]) -> None:
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)

        yield write


@contextmanager
def _parquet(path: Path, sometimes: Sequence[str]) -> Iterator[Callable[[list[dict[str, Any]]], None]]:
    import pyarrow as pa
    from pyarrow import parquet

    writers: list[parquet.ParquetWriter] = []

    def write(rows: list[dict[str, Any]]) -> None:
        rows = [{**dict.fromkeys(sometimes), **row} for row in rows]
        if not writers:
            schema = pa.Table.from_pylist(rows).schema
            for name in sometimes:
                number = name in FIELDS and not FIELDS[name].words
                kind = pa.float64() if number else pa.string()
                schema = schema.set(schema.get_field_index(name), pa.field(name, kind))
            writers.append(parquet.ParquetWriter(path, schema))
        writers[0].write_table(pa.Table.from_pylist(rows, schema=writers[0].schema))

    try:
        yield write
    finally:
        for writer in writers:
            writer.close()


def _columns(row: Mapping[str, Any], sometimes: Sequence[str]) -> list[str]:
    single = [key for key, value in row.items() if not isinstance(value, list | dict)]
    return list(dict.fromkeys([*single, *sometimes]))
