"""`backup` and `restore`: a campaign as one file, and back."""

from __future__ import annotations

from pathlib import Path

import click

from campaigns.cli.console import EXISTING_FILE, say
from campaigns.cli.options import campaign_option, open_campaign, shown


@click.command()
@campaign_option
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False), metavar="TARGET.zip")
def backup(source: str, target: Path) -> None:
    """Write everything of a campaign to one file, while others may go on working on it.

    \b
    Example:
      drx-screen backup --campaign he-rate he-rate.zip
    """
    from campaigns.backup import backup as write

    with open_campaign(source, read_only=True) as campaign:
        events = write(campaign, target)
    say(f"{target}: {events} events.")


@click.command()
@click.argument("source", type=EXISTING_FILE, metavar="BACKUP.zip")
@click.argument("folder", type=click.Path(path_type=Path), required=False)
def restore(source: Path, folder: Path | None) -> None:
    """Bring a campaign back from a backup, into a new folder: by default one of its name.

    \b
    Example:
      drx-screen restore he-rate.zip
    """
    from campaigns.backup import restore as read

    say(f"Restored in {shown(read(source, folder))}/; it is as it was backed up.")


COMMANDS: list[click.Command] = [backup, restore]
