"""`verify`: check what a campaign says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from campaigns.cli.console import EXISTING_FILE, emit, format_option, naming, print_table, progress, say
from campaigns.cli.options import campaign_option, command_line, open_campaign, round_named
from campaigns.errors import LedgerError
from drxnet.errors import DataRefused, UsageError

if TYPE_CHECKING:
    from campaigns.loop.walk import VerifiedWalk

_USUAL_SHARE = 0.01


def _share(context: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise UsageError(f"--sample takes more than 0% and at most 100%, such as 1%. Got {text!r}.")
    return share


@click.command()
@campaign_option
@click.option(
    "--round",
    "number",
    metavar="R03",
    callback=round_named,
    help="Check the walk of this round, with 1% of it scored again.",
)
@click.option(
    "--proof",
    type=EXISTING_FILE,
    help="Check the walk of a ranking, by the file that `rank --within space --proof` wrote.",
)
@click.option(
    "--sample",
    callback=_share,
    metavar="SHARE",
    help="Score this share of the shards of walks again, drawn anew each time: 1%; 100% for all.",
)
@click.option("--seed", type=click.IntRange(0), help="Draw the same shards again.")
@click.option("--device", default="cpu", show_default=True, help="auto, cpu or cuda.")
@click.option(
    "--accept",
    metavar="REASON",
    help="Take rows of the ledger as they are, though they were changed behind its back; recorded with the reason.",
)
@format_option
def verify(
    source: str,
    number: int | None,
    proof: Path | None,
    sample: float | None,
    seed: int | None,
    device: str,
    accept: str | None,
    output: str,
) -> None:
    """Check that a campaign is as it was written; with --round or --sample, that its walks left nothing better out.

    Looks at the YAML, every row, profile and weight of the ledger, the chain of its events and the folder of models.
    Exit code 5 where something is damaged; the table says what, since which event, and what to do.

    A walk is checked by the proof that `propose` keeps beside each round (its hash is in the ledger), and some of its
    shards are scored again. On the engine and machine of the walk they must be equal to the last bit, elsewhere within
    a tolerance. What is wrong is named; the exit code is 3 then. The same goes for a ranking of the whole space whose
    proof was kept.

    \b
    Example:
      drx-screen verify --campaign he-rate
      drx-screen verify --campaign he-rate --round R03 --sample 1%
      drx-screen verify --campaign he-rate --proof best.walk.jsonl
    """
    share = _USUAL_SHARE if sample is None else sample
    if number is not None and proof is not None:
        raise UsageError("Check one at a time: --round the walk of a round, --proof that of a ranking.")
    if proof is not None:
        from campaigns.loop.walk import verify_ranking

        with open_campaign(source, read_only=True) as campaign, progress("scoring shards again") as bar:
            _show([verify_ranking(campaign, proof, sample=share, seed=seed, device=device, progress=bar)], output)
    elif number is None and sample is None:
        _verify_ledger(source, accept, output)
    else:
        from campaigns.loop.walk import verify_walks

        with open_campaign(source, read_only=True) as campaign, progress("scoring shards again") as bar:
            walks = verify_walks(campaign, number, sample=share, seed=seed, device=device, progress=bar)
            _show(list(walks), output)


def _verify_ledger(source: str, accept: str | None, output: str) -> None:
    from campaigns.verification import verify_campaign

    found = verify_campaign(source, accept=accept, command=command_line())

    def table() -> None:
        print_table([{"what": f.what, "": "sound" if f.sound else "DAMAGED", "found": f.said} for f in found])

    emit(output, [asdict(finding) for finding in found], table)
    wrong = [f for f in found if not f.sound]
    if wrong:
        since = min((f.since for f in wrong if f.since is not None), default=None)
        say(
            "Damaged"
            + (f" since event {since}" if since is not None else "")
            + ". `drx-screen restore BACKUP.zip` brings a backup back. If somebody changed rows on purpose, "
            f'`drx-screen verify {naming(source)} --accept "why"` takes them as they are.'
        )
        raise click.exceptions.Exit(LedgerError.exit_code)


def _show(found: Sequence[VerifiedWalk], output: str) -> None:
    """Show what checking walks found; what is wrong ends with exit code 3."""
    rows = [one.as_row() for one in found]
    for one in found:
        sentence = [one.verification.sentence] if one.verification else []
        for text in (*sentence, *(f"{wrong}." for wrong in one.wrong)):
            say(f"{one.name}: {text}")
    emit(output, rows, lambda: print_table([{k: v for k, v in row.items() if k != "wrong"} for row in rows]))
    if not all(row["holds"] for row in rows):
        raise click.exceptions.Exit(DataRefused.exit_code)


COMMANDS: list[click.Command] = [verify]
