"""`enumerate` and `explain`: what a space holds, and why a composition is in it or not."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from campaigns.cli.console import emit, format_option, print_table, progress, say, tell
from drxnet.errors import MissingExtra, UsageError

if TYPE_CHECKING:
    import numpy as np

    from screening.candidates import Candidates, Explanation

    Piece = tuple[int, np.ndarray, np.ndarray]
    """How far one is, and ranks and rows of candidates."""

_SHOWN_AT_MOST = 100_000
"""Rows that are printed; more go to a file."""

space_option = click.option(
    "--space", required=True, help="Name of a shipped space, a YAML, or a CSV with a column of compositions."
)


@click.command("enumerate")
@space_option
@click.option("--count", is_flag=True, help="How many, exactly, and the share that passes the filters (default).")
@click.option("--sample", type=click.IntRange(min=1), metavar="N", help="N different ones, drawn uniformly.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the sample.")
@click.option("--shard", metavar="I/N", help="The I-th of N equal parts, I from 1.")
@click.option("--all", "everything", is_flag=True, help="All of them, in order.")
@click.option("--accepted", is_flag=True, help="Leave out what the filters of the space refuse.")
@click.option("--out", type=click.Path(path_type=Path), help="Write to this .csv or .parquet instead of the screen.")
@format_option
def enumerate_(
    space: str,
    count: bool,
    sample: int | None,
    seed: int,
    shard: str | None,
    everything: bool,
    accepted: bool,
    out: Path | None,
    output: str,
) -> None:
    """Count, sample or list the compositions of a space.

    \b
    Example:
      drx-screen enumerate --space paper-he --count
      drx-screen enumerate --space wide --sample 10 --seed 1
      drx-screen enumerate --space paper-he --shard 3/8 --accepted --out part3.parquet
    """
    from screening.lattice import open_candidates

    asked = _asked(count, sample, shard, everything)
    counts = not asked or count
    if out is not None and counts:
        raise UsageError("--out takes rows; give --sample, --shard or --all with it.")
    begun = time.perf_counter()
    candidates = open_candidates(space)
    if counts:
        _show_count(candidates, space, time.perf_counter() - begun, output)
        return
    if sample is not None:
        number, pieces = sample, _sampled(candidates, sample, seed)
    else:
        start, stop = (0, candidates.count) if shard is None else _part(candidates, shard)
        number, pieces = stop - start, _walked(candidates, start, stop)
    if out is None and number > _SHOWN_AT_MOST:
        raise UsageError(f"{number:,} rows are too many for the screen; add --out FILE.csv or FILE.parquet.")
    kept = _accepted(candidates, pieces) if accepted else pieces
    if out is None:
        emit(output, [row for _, ranks, units in kept for row in _rows(candidates, ranks, units)])
    else:
        _write(out, candidates, kept, number)


def _write(out: Path, candidates: Candidates, pieces: Iterable[Piece], number: int) -> None:
    """Write rows to a file, and say how many of the number that were looked at."""
    written = 0
    with progress("writing") as report, _writer(out, candidates) as write:
        for done, ranks, units in pieces:
            write(ranks, units)
            written += len(ranks)
            report(done, number)
    say(f"{written:,} compositions in {out}.")


def _asked(count: bool, sample: int | None, shard: str | None, everything: bool) -> list[str]:
    """The one of the options that was given, if any."""
    given = {"--count": count, "--sample": sample is not None, "--shard": shard is not None, "--all": everything}
    asked = [name for name, is_given in given.items() if is_given]
    if len(asked) > 1:
        raise UsageError(f"Give one of --count, --sample, --shard and --all. Got {' and '.join(asked)}.")
    return asked


def _show_count(candidates: Candidates, space: str, seconds: float, output: str) -> None:
    acceptance = candidates.accepted()
    found: dict[str, Any] = {
        "space": space,
        "count": candidates.count,
        "accepted_fraction": acceptance.fraction,
        "accepted_fraction_error": acceptance.error,
        "refused_fractions": {name: share for name, share in acceptance.refused.items() if share > 0},
        "step": f"1/{candidates.denominator}",
        "metals": list(candidates.metals),
        "fingerprint": candidates.fingerprint,
        "counted_in_s": seconds,
    }

    def table() -> None:
        tell(f"{candidates.count:,} compositions of {', '.join(candidates.metals)} in steps of {found['step']}")
        error = f" +- {100 * acceptance.error:.1f}" if acceptance.error else ""
        tell(f"{100 * acceptance.fraction:.1f}{error} % pass the filters")
        for name, share in sorted(found["refused_fractions"].items(), key=lambda item: -item[1]):
            tell(f"  {name} refuses {100 * share:.1f} %")

    emit(output, found, table)


def _part(candidates: Candidates, shard: str) -> tuple[int, int]:

    place, _, parts = shard.partition("/")
    if not (place.isdecimal() and parts.isdecimal() and 1 <= int(place) <= int(parts)):
        raise UsageError(f"--shard takes I/N with I from 1 to N, such as 3/8. Got {shard!r}.")
    return candidates.shard(int(place) - 1, int(parts))


def _walked(candidates: Candidates, start: int, stop: int) -> Iterator[Piece]:
    import numpy as np

    for first, units in candidates.walk(start, stop):
        yield first + len(units) - start, first + np.arange(len(units)), units


def _sampled(candidates: Candidates, n: int, seed: int) -> Iterator[Piece]:
    import numpy as np

    done, ranks = 0, candidates.sample_ranks(n, seed)
    for part in np.array_split(ranks, -(-n // _SHOWN_AT_MOST)):
        done += len(part)
        yield done, part, candidates.unrank(part)


def _accepted(candidates: Candidates, pieces: Iterator[Piece]) -> Iterator[Piece]:
    for done, ranks, units in pieces:
        kept = candidates.keeps(units)
        yield done, ranks[kept], units[kept]


def _rows(candidates: Candidates, ranks: np.ndarray, units: np.ndarray) -> Iterator[dict[str, Any]]:
    for rank, formula in zip(ranks.tolist(), candidates.formulas(units), strict=True):
        yield {"rank": rank, "composition": formula}


@contextmanager
def _writer(path: Path, candidates: Candidates) -> Iterator[Any]:
    """Give a function that writes ranks and rows; the file appears when all are written."""
    from drxnet.files import new_file

    columns = ["rank", "composition", *candidates.columns]
    if path.suffix == ".csv":
        with new_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(columns)

            def write_csv(ranks: np.ndarray, units: np.ndarray) -> None:
                amounts = (units / candidates.denominator).tolist()
                named = zip(ranks.tolist(), candidates.formulas(units), amounts, strict=True)
                table.writerows([rank, formula, *row] for rank, formula, row in named)

            yield write_csv
    elif path.suffix == ".parquet":
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError:
            raise MissingExtra("Parquet needs pyarrow: pip install 'drx-screen[parquet]', or write .csv.") from None
        kinds = [pyarrow.int64(), pyarrow.string(), *[pyarrow.float64()] * len(candidates.columns)]
        schema = pyarrow.schema(list(zip(columns, kinds, strict=True)))
        with new_file(path) as partial, parquet.ParquetWriter(partial, schema) as file:

            def write_parquet(ranks: np.ndarray, units: np.ndarray) -> None:
                amounts = list((units / candidates.denominator).T)
                file.write_table(pyarrow.table([ranks, candidates.formulas(units), *amounts], schema=schema))

            yield write_parquet
    else:
        raise UsageError(f"--out ends in .csv or .parquet. Got {path.name}.")


@click.command()
@click.argument("formula")
@space_option
@click.option("--nonstoichiometric", is_flag=True, help="Take a formula whose cations are off by more than 5 %.")
@format_option
def explain(formula: str, space: str, nonstoichiometric: bool, output: str) -> None:
    """Say whether FORMULA is in a space or what excludes it, with its charges and every filter.

    \b
    Example:
      drx-screen explain Li1.2Mn0.1Mg0.1Cr0.3Ti0.2Nb0.1O1.8F0.2 --space paper-he
    """
    from drxnet.composition import Composition
    from screening.candidates import explain as explained
    from screening.lattice import open_candidates

    composition = Composition.parse(formula, nonstoichiometric=nonstoichiometric)
    found = explained(open_candidates(space), composition)
    emit(output, _explanation(found, space), lambda: _show(found, space))


def _explanation(found: Explanation, space: str) -> dict[str, Any]:
    return {
        "composition": found.composition.formula,
        "space": space,
        "in_space": not found.excluded_by,
        "excluded_by": found.excluded_by,
        "rank": found.rank,
        "accepted": all(v.passed for v in found.verdicts),
        "oxidation_states": found.oxidation_states,
        "species": {str(s): amount for s, amount in found.species.items()},
        "surplus_charge": found.surplus_charge,
        "reactions": [{"pair": [str(a), str(b)], "verdict": verdict} for a, b, verdict in found.reactions],
        "reductions": [
            {"equation": r.equation, "gibbs_kj_mol": r.gibbs_kj_mol, "metal": r.metal, "estimated": r.estimated}
            for r in found.reductions
        ],
        "filters": [
            {"name": v.name, "value": v.value, "threshold": v.threshold, "side": v.side, "unit": v.unit}
            | {"passed": v.passed, "excess": v.excess}
            for v in found.verdicts
        ],
        "oxygen_redox": found.oxygen_redox,
        "exceptions": dict(found.exceptions),
        "hazards": found.hazards,
    }


def _show(found: Explanation, space: str) -> None:
    tell(found.composition.formula)
    if found.excluded_by:
        tell(f"not in {space}:")
        for reason in found.excluded_by:
            tell(f"  {reason}")
    else:
        tell(f"in {space}, rank {found.rank:,}")
    tell()
    print_table(_balance(found))
    tell()
    print_table(
        [
            {
                "filter": v.name,
                "value": v.value,
                "threshold": "" if v.threshold is None else f"{v.side} {v.threshold:.4g}",
                "unit": v.unit,
                "verdict": "" if v.threshold is None else "passes" if v.passed else f"misses by {v.excess:.3g}",
            }
            for v in found.verdicts
        ]
    )
    for remark in _remarks(found):
        tell(remark)


def _balance(found: Explanation) -> list[dict[str, Any]]:
    """Amount and charge of every ion, and their sums."""
    anions = {"O2-": found.composition.oxygen, "F-": found.composition.fluorine}
    ions = [(str(s), amount, s.charge * amount) for s, amount in found.species.items()]
    ions += [(s, amount, -amount * (2 if s == "O2-" else 1)) for s, amount in anions.items() if amount]
    ions.append(("sum", sum(a for _, a, _ in ions), round(sum(charge for *_, charge in ions), 6)))
    return [{"species": s, "amount": a, "charge": charge} for s, a, charge in ions]


def _remarks(found: Explanation) -> Iterator[str]:
    """What a chemist should know beside the numbers."""
    yield from (f"{one} beside {other}: {verdict}" for one, other, verdict in found.reactions)
    yield from (f"May turn to metal without oxygen: {reduction}" for reduction in found.reductions)
    if found.oxygen_redox:
        yield found.oxygen_redox
    yield from (f"{name}: made all the same. {reason}" for name, reason in found.exceptions.items())
    yield from found.hazards


COMMANDS: list[click.Command] = [enumerate_, explain]
