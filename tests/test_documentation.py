"""The documentation: built without a warning, complete, without dead links, and what its pages show runs."""

from __future__ import annotations

import ast
import dataclasses
import html
import importlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import click
import pytest
import yaml
from click.testing import CliRunner
from pydantic import BaseModel

pytest.importorskip("mkdocs", reason="MkDocs is not installed (pip install '.[docs]')")

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
FENCE = re.compile(r"(?P<before>[^\n]*)\n```(?P<language>\w*)\n(?P<code>.*?)\n```", re.DOTALL)


class Page(HTMLParser):
    """What a page refers to, what can be referred to in it, and what its browser would fetch."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.fetched: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if "src" in given:
            self.fetched.append(given["src"])
        if tag == "link" and given.get("rel") in ("stylesheet", "icon", "preconnect", "preload"):
            self.fetched.append(given["href"])

    @property
    def text(self) -> str:
        return html.unescape(re.sub(r"<[^>]+>", "", self.source))


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built documentation, the tutorials run."""
    target = tmp_path_factory.mktemp("site") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(target)]
    surroundings = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    run = subprocess.run(command, cwd=ROOT, env=surroundings, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-4000:]
    return target


@pytest.fixture(scope="session")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(site.rglob("*.html"))}


@pytest.fixture(scope="session")
def reference(site: Path) -> dict[str, Page]:
    return {path.stem: Page(path) for path in (site / "reference").glob("*.html")}


def test_no_link_is_dead(site: Path, pages: dict[Path, Page]):
    dead = []
    for path, page in pages.items():
        for link in (*page.links, *page.fetched):
            if re.match(r"[a-z]+:", link) or path.name == "404.html":
                continue
            place, anchor = urldefrag(link)
            target = (path.parent / unquote(place)).resolve() if place else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file() or (anchor and target.suffix == ".html" and anchor not in pages[target].anchors):
                dead.append(f"{path.relative_to(site)}: {link}")
    assert dead == []


def test_reading_asks_nobody_for_anything(site: Path, pages: dict[Path, Page]):
    foreign = [link for page in pages.values() for link in page.fetched if re.match(r"(https?:)?//", link)]
    assert foreign == []
    for style in site.rglob("*.css"):
        assert re.findall(r"(?:url\(|@import )['\"]?(?:https?:)?//[^)'\"]+", style.read_text()) == [], style


def test_the_tutorials_show_what_they_printed_and_drew(site: Path, pages: dict[Path, Page]):
    for name, printed in (
        ("predict", "mAh/g, edge"),
        ("campaign", "recorded, 2 discharges"),
        ("own_loop", "best so far"),
    ):
        page = pages[site / "tutorials" / f"{name}.html"]
        assert printed in page.text
        assert list((site / "tutorials").glob(f"{name}-*.png"))


# -- the reference is complete ---------------------------------------------------------------------------


def commands(group: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    yield name, group
    if isinstance(group, click.Group):
        for inner, command in group.commands.items():
            yield from commands(command, f"{name} {inner}")


def test_every_command_and_option_is_in_the_reference(reference: dict[str, Page]):
    from campaigns.cli import main

    sections = dict(
        re.findall(r"<h[1-6] id=\"([\w-]+)\"(.*?)(?=<h[1-6] id|$)", reference["commands"].source, re.DOTALL)
    )
    for name, command in commands(main, "drx-screen"):
        described = next((text for key, text in sections.items() if key == name.replace(" ", "-")), None)
        assert described is not None, name
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                missing = [option for option in parameter.opts if f"{option}<" not in described]
                assert missing == [], name


def keys(model: type[BaseModel]) -> set[str]:
    """Keys of a model and of all models in it."""
    found, queue, seen = set(), [model], set()
    while queue:
        current = queue.pop()
        if isinstance(current, type) and issubclass(current, BaseModel):
            if current in seen:
                continue
            seen.add(current)
            found |= set(current.model_fields)
            queue += [field.annotation for field in current.model_fields.values()]
        queue += list(getattr(current, "__args__", ()))
    return found


def test_every_key_of_every_yaml_is_in_the_reference(reference: dict[str, Page]):
    from campaigns.spec import CampaignSpec
    from drxnet.finetuning import FineTuningOptions
    from drxnet.process import FIELDS
    from drxnet.training import TrainingOptions
    from screening.space import CandidateSpace

    asked = (keys(CampaignSpec) | keys(CandidateSpace)) - {"folder"}
    asked |= {f.name for options in (FineTuningOptions, TrainingOptions) for f in dataclasses.fields(options)}
    asked |= {f"process.{name}" for name in FIELDS}
    assert {key for key in asked if f"<td><code>{key}</code></td>" not in reference["yaml"].source} == set()


def test_every_name_of_a_registry_and_every_rule_is_in_the_reference(reference: dict[str, Page]):
    from campaigns.intake.judgement import JUDGEMENTS
    from campaigns.intake.rules import RULES
    from drxnet.process import FIELDS
    from screening.filters import FILTERS
    from screening.quantities import QUANTITIES
    from screening.strategies import STRATEGIES

    names = [*QUANTITIES.builtin, *STRATEGIES.builtin, *FIELDS, *(f.name for f in FILTERS)]
    assert [name for name in names if f"<td><code>{name}</code></td>" not in reference["names"].source] == []
    troubles = (DOCS / "troubleshooting.md").read_text()
    for rule in (*RULES, *JUDGEMENTS):
        assert rule.lower() in reference["rules"].anchors
        assert f"| {rule} | " in troubles


def test_every_public_name_is_in_the_reference(reference: dict[str, Page]):
    from campaigns.campaign import Campaign

    described = reference["python"].anchors
    for path in sorted(p for top in ("drxnet", "screening", "campaigns") for p in (ROOT / top).rglob("*.py")):
        declared = re.search(r"^__all__ = (\[.*?\])", path.read_text(), re.DOTALL | re.MULTILINE)
        if declared:
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            module = importlib.import_module(name)
            for public in ast.literal_eval(declared[1]):
                one = getattr(module, public)
                homes = {
                    f"{name}.{public}",
                    f"{getattr(one, '__module__', name)}.{getattr(one, '__qualname__', public)}",
                }
                assert homes & described or public == "RULES", f"{name}.{public}"
    verbs = {n for n, value in vars(Campaign).items() if callable(value) and not n.startswith("_")}
    assert {f"campaigns.campaign.Campaign.{verb}" for verb in verbs} <= described


def test_every_exit_code_is_explained():
    import campaigns.errors
    import drxnet.errors
    import screening.errors
    from campaigns.cli.console import DEFECT, INTERRUPTED

    declared = {
        error.exit_code
        for module in (drxnet.errors, screening.errors, campaigns.errors)
        for error in vars(module).values()
        if isinstance(error, type) and issubclass(error, drxnet.errors.DRXError) and error is not drxnet.errors.DRXError
    }
    troubles = (DOCS / "troubleshooting.md").read_text()
    for code in {0, DEFECT, INTERRUPTED} | declared:
        assert re.search(rf"^\| {code} \| ", troubles, re.MULTILINE), code


def test_the_messages_that_are_explained_are_messages_of_the_code():
    source = "\n".join(
        p.read_text() for top in ("drxnet", "screening", "campaigns") for p in (ROOT / top).rglob("*.py")
    )
    section = (DOCS / "troubleshooting.md").read_text().split("## Messages")[1].split("### Numbers")[0]
    quoted = re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)
    assert len(quoted) > 20
    assert [words for words in quoted if words not in source] == []


def test_every_concept_has_a_picture_that_the_script_draws():
    script = (ROOT / "scripts" / "draw_concepts.py").read_text()
    for page in (DOCS / "concepts").glob("*.md"):
        pictures = re.findall(r"!\[[^\]]+\]\(\.\./pictures/(\w+)\.svg\)", page.read_text())
        assert len(pictures) == (page.stem != "index"), page.name
        assert all(f"    draw_{name}(" in script and (DOCS / "pictures" / f"{name}.svg").is_file() for name in pictures)


# -- what the pages show runs ----------------------------------------------------------------------------


def walked() -> list[Path]:
    """Pages in the order of the navigation, as far as they are written by hand."""
    names = re.findall(r"^ +- ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    return [DOCS / name for name in names if (DOCS / name).is_file()]


def run_shell(line: str) -> None:
    """Run a line of a console block: drx-screen in this process, anything else in a shell."""
    from campaigns.cli import main

    words = shlex.split(line, comments=True)
    if words[0] != "drx-screen":
        subprocess.run(line, shell=True, check=True)
        return
    result = CliRunner().invoke(main, words[1:])
    assert result.exit_code == 0, f"{line}\n{result.output[-2000:]}"


def check_yaml(code: str) -> None:
    """A YAML block keeps to its schema; one with a name is written for the commands below it."""
    from jsonschema import Draft202012Validator

    from campaigns.template import schema

    values = yaml.safe_load(code)
    named = re.match(r"# (\S+\.yaml)\n", code)
    kind = "campaign" if not named or named[1] == "campaign.yaml" else "space"
    about = dict(schema(f"{kind}.schema.json"))
    if not named:  # a piece of one
        about.pop("required", None)
    Draft202012Validator(about).validate(values)
    if named and named[1] != "campaign.yaml":
        Path(named[1]).write_text(code)


def test_every_block_of_code_runs_or_says_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    ran = {"sh": 0, "python": 0, "yaml": 0}
    for page in walked():
        names: dict[str, object] = {}
        for block in FENCE.finditer(page.read_text()):
            if re.fullmatch(r"<!-- not run: \S.* -->", block["before"]):
                continue
            match block["language"]:
                case "sh":
                    for line in block["code"].replace("\\\n", "").splitlines():
                        run_shell(line)
                case "python":
                    exec(compile(block["code"], f"{page.name}", "exec"), names)
                case "yaml":
                    check_yaml(block["code"])
                case "toml" | "text":
                    continue
                case language:
                    pytest.fail(f"{page.name}: a block of {language or 'no language'}")
            ran[block["language"]] += 1
    assert ran["sh"] > 12
    assert ran["python"] > 2
    assert ran["yaml"] > 3
