"""`verify`: check what a campaign says of itself."""

from __future__ import annotations

from dataclasses import asdict

import click

from campaigns.cli.console import emit, format_option, print_table, progress, say
from campaigns.cli.loop import campaign_option, command_line, open_campaign
from campaigns.errors import LedgerError
from drxnet.errors import DataRefused, UsageError

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
@click.option("--round", "name", metavar="R03", help="Check the walk of this round, with 1% of it scored again.")
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
    name: str | None,
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
    a tolerance. What is wrong is named; the exit code is 3 then.

    \b
    Example:
      drx-screen verify --campaign he-rate
      drx-screen verify --campaign he-rate --round R03 --sample 1%
    """
    if name is None and sample is None:
        _verify_ledger(source, accept, output)
    else:
        _verify_walks(source, name, _USUAL_SHARE if sample is None else sample, seed, device, output)


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
            f'`drx-screen verify --campaign {source} --accept "why"` takes them as they are.'
        )
        raise click.exceptions.Exit(LedgerError.exit_code)


def _verify_walks(source: str, name: str | None, sample: float, seed: int | None, device: str, output: str) -> None:
    from campaigns.ledger.records import round_number
    from campaigns.loop.walk import verify_walks

    number = round_number(name) if name else None
    rows, said = [], []
    with open_campaign(source, read_only=True) as campaign, progress("scoring shards again") as bar:
        for found in verify_walks(campaign, number, sample=sample, seed=seed, device=device, progress=bar):
            rows.append(found.as_row())
            label = rows[-1]["round"]
            said += [f"{label}: {found.verification.sentence}"] if found.verification else []
            said += [f"{label}: {text}." for text in found.wrong]
    for text in said:
        say(text)
    emit(output, rows, lambda: print_table([{k: v for k, v in row.items() if k != "wrong"} for row in rows]))
    if not all(row["holds"] for row in rows):
        raise click.exceptions.Exit(DataRefused.exit_code)


COMMANDS: list[click.Command] = [verify]
