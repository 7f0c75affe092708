"""`verify`: check what a campaign says of itself."""

from __future__ import annotations

import click

from campaigns.cli.console import emit, format_option, print_table, progress, say
from campaigns.cli.loop import campaign_option, open_campaign
from drxnet.errors import DataRefused, UsageError


def _share(context: click.Context, parameter: click.Parameter, text: str) -> float:
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise UsageError(f"--sample takes more than 0% and at most 100%, such as 1%. Got {text!r}.")
    return share


@click.command()
@campaign_option
@click.option("--round", "name", metavar="R03", help="Of this round; by default of every one whose space was walked.")
@click.option(
    "--sample",
    default="1%",
    show_default=True,
    callback=_share,
    metavar="SHARE",
    help="Shards to score again, drawn anew each time; 100% for all.",
)
@click.option("--seed", type=click.IntRange(0), help="Draw the same shards again.")
@click.option("--device", default="cpu", show_default=True, help="auto, cpu or cuda.")
@format_option
def verify(source: str, name: str | None, sample: float, seed: int | None, device: str, output: str) -> None:
    """Check that every candidate of a walk was scored and that nothing better was left out.

    Checks the proof that `propose` keeps beside each round (its hash is in the ledger), and scores some of its shards
    again. On the engine and machine of the walk they must be equal to the last bit, elsewhere within a tolerance. What
    is wrong is named; the exit code is 3 then.

    \b
    Example:
      drx-screen verify --campaign he-rate --round R03 --sample 1%
    """
    from campaigns.ledger.records import round_number
    from campaigns.loop.walk import verify_walks

    number = round_number(name) if name else None
    rows, said = [], []
    with open_campaign(source) as campaign, progress("scoring shards again") as bar:
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
