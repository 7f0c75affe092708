from __future__ import annotations

from typing import get_args

from click.testing import CliRunner

from campaigns.cli import main
from screening.strategy import STRATEGIES, Strategy


def test_every_strategy_is_described_and_offered():
    assert tuple(STRATEGIES) == get_args(Strategy)
    help_text = CliRunner().invoke(main, ["propose", "--help"], terminal_width=200).output
    assert all(name in help_text for name in STRATEGIES)
