from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from campaigns.cli import GROUPS, main

README = Path(__file__).parents[3] / "README.md"
HEAVY = ("torch", "botorch", "gpytorch", "ray", "pymatgen", "matplotlib", "pandas", "plotly", "scipy")


def commands(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


COMMANDS = dict(commands(main))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name):
    result = CliRunner().invoke(main, [*name.split(), "--help"])
    assert result.exit_code == 0
    assert "Example" in result.output
    assert f"drx-screen {name}" in result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_the_readme_documents_every_command(name):
    assert f"drx-screen {name}" in README.read_text()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_is_for(name):
    for parameter in COMMANDS[name].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts}"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["propose", "--help"], ["models", "list"], ["status", "--campaign", "nowhere"]]
)
def test_commands_that_need_no_network_import_none(arguments, tmp_path):
    program = (
        "import sys\nfrom campaigns.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit:\n    pass\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert run.stderr.splitlines()[-1] == "[]"


def test_an_unknown_command_is_a_usage_error():
    result = CliRunner().invoke(main, ["propse"])
    assert result.exit_code == 2
    assert "propse" in result.output


def test_help_lists_every_command_once_under_what_one_wants_to_do():
    listed = [name for names in GROUPS.values() for name in names]
    assert set(listed) <= set(main.commands)
    text = CliRunner().invoke(main, ["--help"]).output
    places = [text.index(f"{title}:") for title in GROUPS]
    assert places == sorted(places)
    for name in main.commands:  # one that stands in no group comes last
        assert len(re.findall(rf"^  {name} ", text, re.M)) == 1


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_documented_completion_gives_each_shell_its_script(shell: str) -> None:
    page = (Path(__file__).parents[3] / "docs" / "howto" / "install.md").read_text(encoding="utf-8")
    assert f"_DRX_SCREEN_COMPLETE={shell}_source drx-screen" in page
    found = CliRunner().invoke(main, [], prog_name="drx-screen", env={"_DRX_SCREEN_COMPLETE": f"{shell}_source"})
    assert found.exit_code == 0
    assert f"_DRX_SCREEN_COMPLETE={shell}_complete" in found.stdout


def test_tab_completes_commands() -> None:
    words = {"_DRX_SCREEN_COMPLETE": "bash_complete", "COMP_WORDS": "drx-screen prop", "COMP_CWORD": "1"}
    assert "propose" in CliRunner().invoke(main, [], prog_name="drx-screen", env=words).stdout
