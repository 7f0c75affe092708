from __future__ import annotations

import logging
import math
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from fakes import FakeEnsemble

from campaigns.cli import main
from campaigns.spec import parse_spec
from drxnet.composition import Composition
from drxnet.ensemble import Amounts
from drxnet.errors import ConfigurationError
from drxnet.plugins import plugins
from screening.batch import Limits
from screening.outlook import Outlook
from screening.scoring import Rows
from screening.strategies import STRATEGIES, today
from screening.strategies.base import ordinal
from screening.strategies.improving import LogEI
from screening.testing import check_strategy
from tests.screening.test_outlook import compositions, measured

OUTLOOK = Outlook.of(FakeEnsemble(3), measured=measured(), pending=[Composition.parse("Li1.2Mn0.4Ti0.4O2")])
CANDIDATES = compositions(12, seed=4)


@pytest.mark.parametrize("name", STRATEGIES.builtin)
def test_every_strategy_conforms(name: str) -> None:
    check_strategy(STRATEGIES[name], OUTLOOK, CANDIDATES)


def test_every_strategy_is_described_and_offered() -> None:
    help_text = CliRunner().invoke(main, ["propose", "--help"], terminal_width=200).output
    for name, strategy in STRATEGIES.builtin.items():
        assert name in help_text
        assert strategy.__doc__


def test_an_unknown_strategy_is_refused_where_it_enters() -> None:
    space = {"space": "tiny"}
    with pytest.raises(ConfigurationError, match="No strategy 'loge'. Did you mean logei"):
        parse_spec({**space, "strategy": "loge"}, "campaign.yaml")
    with pytest.raises(ConfigurationError, match="No strategy"):
        parse_spec({**space, "first_strategy": "best"}, "campaign.yaml")
    found = CliRunner().invoke(main, ["propose", "--campaign", "tiny", "--strategy", "loge"])
    assert found.exit_code == 2
    assert "Did you mean logei" in found.output + str(found.exception)


def test_the_second_name_of_a_strategy_is_read_as_the_first(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="screening"):
        assert today("qlognehvi") == "qlognei"
    assert "called qlognei, whatever the number of objectives" in caplog.text
    assert parse_spec({"space": "tiny", "strategy": "qlognehvi"}, "campaign.yaml").strategy == "qlognei"
    assert "qlognehvi" not in STRATEGIES


def test_another_package_may_add_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Theirs(LogEI):
        """Another laboratory's."""

    plugins.cache_clear()
    monkeypatch.setattr(
        "drxnet.plugins.plugins", lambda group: {"theirs": Theirs} if group == "drx_screen.strategies" else {}
    )
    assert STRATEGIES.named("theirs") is Theirs
    assert parse_spec({"space": "tiny", "strategy": "theirs"}, "campaign.yaml").strategy == "theirs"
    monkeypatch.setattr("drxnet.plugins.plugins", lambda group: {"theirs": print})
    with pytest.raises(ConfigurationError, match="derived from screening.strategies.Strategy"):
        STRATEGIES.named("theirs")


def test_importing_the_names_imports_no_torch() -> None:
    code = "import sys, screening.strategies; sys.exit('torch' in sys.modules or 'botorch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("number", "written"), [(1, "1st"), (2, "2nd"), (3, "3rd"), (11, "11th"), (112, "112th"), (1203, "1,203rd")]
)
def test_ordinals(number, written) -> None:
    assert ordinal(number) == written


def test_a_stream_keeps_candidates_as_often_as_their_promise_says() -> None:
    """The best score of a stream is a draw with weights: Gumbel noise is added, its mean Euler's constant."""
    strategy = STRATEGIES["variance-reduction"]
    amounts = Amounts.of(CANDIDATES)
    units = np.arange(len(CANDIDATES))[:, None]
    rows = Rows(OUTLOOK, Limits(), amounts, units)
    mean, std = rows.moments
    promise = OUTLOOK.improvement.log_utility(OUTLOOK.signed(mean)) + OUTLOOK.log_feasible(mean, std)
    seeds = np.random.default_rng(0).integers(2**31, size=600).tolist()
    scores = np.stack([strategy(seed).score(OUTLOOK, rows).numpy() for seed in seeds])
    noise = scores - strategy.sharpness * promise.numpy()
    assert noise.mean() == pytest.approx(0.5772, abs=0.05)
    assert noise.std() == pytest.approx(math.pi / math.sqrt(6), rel=0.05)
    assert np.mean(noise < 0) == pytest.approx(math.exp(-1), abs=0.03)
    won = np.bincount(scores.argmax(1), minlength=len(CANDIDATES)) / len(scores)
    weights = (strategy.sharpness * promise).softmax(0).numpy()
    assert won == pytest.approx(weights, abs=0.07)
