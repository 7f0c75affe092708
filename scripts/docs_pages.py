"""Pages of the documentation that are made from the code: a hook of MkDocs, see ``mkdocs.yml``.

The reference of YAML keys comes from the JSON Schemas, that of rules and names from their tables, and the tutorials
are run here, so that what they show is what the code prints today. ``DRX_DOCS_RUN=0`` leaves them unrun.
"""

from __future__ import annotations

import base64
import inspect
import json
import os
import re
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
TUTORIALS = ROOT / "docs" / "tutorials"
OUTSIDE = {
    "benchmarks/README.md": "benchmarks.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""Files of the repository that are pages, too."""

_SECONDS = 300
"""Of a cell of a tutorial, at most."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    pages: dict[str, str | bytes] = {
        "reference/yaml.md": yaml_page(),
        "reference/rules.md": rules_page(),
        "reference/names.md": names_page(),
    }
    pages |= {page: (ROOT / source).read_text(encoding="utf-8") for source, page in OUTSIDE.items()}
    for source in sorted(TUTORIALS.glob("*.py")):
        pages |= tutorial_pages(source)
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_pre_build(**_: Any) -> None:
    """Let the examples in the help of commands be code, as they are in a terminal."""
    import click

    from campaigns.cli import main

    queue: list[click.Command] = [main]
    while queue:
        command = queue.pop()
        queue += list(command.commands.values()) if isinstance(command, click.Group) else []
        command.help = _EXAMPLE.sub(_as_code, inspect.cleandoc(command.help or ""))


def _as_code(found: re.Match[str]) -> str:
    return f"Example:\n\n```sh\n{textwrap.dedent(found[1]).strip()}\n```\n"


_EXAMPLE = re.compile(r"\x08\n *Example:\n((?: +.*(?:\n|$))+)")


def on_page_content(content: str, **_: Any) -> str:
    """Leave out what click calls a default that is none."""
    return content.replace("<code>Sentinel.UNSET</code>", "")


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Let links to the files of the repository lead to their pages."""
    for source, target in OUTSIDE.items():
        markdown = markdown.replace(f"](../{source}", f"]({target}")
    return markdown.replace("](docs/", "](") if page.file.src_uri in OUTSIDE.values() else markdown


# -- YAML ------------------------------------------------------------------------------------------------


def yaml_page() -> str:
    """Every key of every YAML."""
    from campaigns.template import schema

    parts = [
        "# YAML keys\n",
        "Made from the models that read the files. `drx-screen init` writes every key of a campaign, with its default, "
        "into the new `campaign.yaml`; editors complete and check by the JSON Schemas in the package `configs`.\n",
    ]
    for kind, title, about in (
        ("campaign", "Campaign", "`campaign.yaml`, and `configs/campaigns/`."),
        ("space", "Space", "A file of its own, or under `space:` of a campaign; `configs/spaces/`."),
        ("training", "Training options", "`drx-screen train --options`; `configs/models/`."),
    ):
        whole = schema(f"{kind}.schema.json")
        parts.append(f"## {title}\n\n{about} {whole.get('description', '')}\n")
        parts.append(keys_table(whole, kind))
        for name, part in whole.get("$defs", {}).items():
            if kind == "campaign" and name in schema("space.schema.json")["$defs"] or name == "CandidateSpace":
                continue  # stands below Space
            parts.append(f"### {name} {{#{kind}-{name.lower()}}}\n\n{part.get('description', '')}\n")
            parts.append(keys_table(part, kind))
    return "\n".join(parts)


def keys_table(part: Mapping[str, Any], kind: str) -> str:
    """Keys of one mapping, as a table."""
    rows = ["| key | value | default | what it is |", "|---|---|---|---|"]
    for key, about in part["properties"].items():
        empty = {} if about.get("type") == "object" else None
        default = "required" if key in part.get("required", ()) else f"`{_shown(about.get('default', empty))}`"
        if "$ref" in about or len(default) > _LONGEST_DEFAULT:
            default = "see below"
        text = about.get("description") or f"See {_type(about, kind)}."
        rows.append(f"| `{key}` | {_type(about, kind)} | {default} | {_cell(text)} |")
        for inner, one in about.get("properties", {}).items():
            rows.append(f"| `{key}.{inner}` | {_type(one, kind)} |  | {_cell(one['description'])} |")
    return "\n".join(rows) + "\n"


def _shown(value: Any) -> str:
    """A default as YAML writes it."""
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


_LONGEST_DEFAULT = 40
_BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}


def _type(about: Mapping[str, Any], kind: str) -> str:
    """What a value may be, in words."""
    for key, said in _COMPOUND.items():
        if key in about and about[key] is not False:
            return said(about[key], kind)
    types = about.get("type", "anything")
    named = [_WORDS.get(t, t) for t in (types if isinstance(types, list) else [types])]
    bounds = [f"{word} {about[key]:g}" for key, word in _BOUNDS.items() if key in about]
    return " or ".join(named) + (f" {', '.join(bounds)}" if bounds else "")


def _referred(reference: str, kind: str) -> str:
    name = reference.rpartition("/")[2]
    page = "space" if name in ("Count", "Range", "Quota", "Filters") else kind
    return "[space](#space)" if name == "CandidateSpace" else f"[{name}](#{page}-{name.lower()})"


_WORDS = {"string": "text", "object": "mapping", "integer": "whole number", "boolean": "true or false"}
_COMPOUND: Mapping[str, Callable[[Any, str], str]] = {
    "$ref": _referred,
    "enum": lambda values, kind: " or ".join(f"`{_shown(v)}`" for v in values),
    "const": lambda value, kind: f"`{value}`",
    "anyOf": lambda ones, kind: ", ".join(dict.fromkeys(_type(o, kind) for o in ones if o.get("type") != "null")),
    "prefixItems": lambda items, kind: "[min, max]" if items[0] != {"type": "string"} else "pair",
    "items": lambda item, kind: f"list of {_type(item, kind)}",
    "additionalProperties": lambda value, kind: f"name: {_type(value, kind)}",
}
"""What a schema says beside plain types, by its keyword, in words."""


# -- rules and names -------------------------------------------------------------------------------------


def rules_page() -> str:
    """Every rule of validation."""
    from campaigns.intake.judgement import JUDGEMENTS
    from campaigns.intake.rules import RULES

    rules = {**RULES, **JUDGEMENTS}
    parts = [
        "# Rules\n",
        "E refuses a file, W warns, D doubts a number by its file and J by the other cells of the campaign. "
        "`drx-screen validate --explain E4` prints the same; "
        "[Troubleshooting](../troubleshooting.md) says what to do.\n",
    ]
    parts += [
        f"## {name} {{#{name.lower()}}}\n\n**{rule.title.strip()}**\n\n{rule.why.strip()}\n"
        for name, rule in rules.items()
    ]
    return "\n".join(parts)


def names_page() -> str:
    """Names that YAML and options take: quantities, filters, strategies, conditions of a process."""
    from drxnet.process import FIELDS
    from screening.filters import FILTERS, Filters
    from screening.quantities import QUANTITIES
    from screening.strategies import STRATEGIES

    def table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
        lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(list(head))]
        return "\n".join([*lines, *(f"| {' | '.join(_cell(str(c)) for c in row)} |" for row in rows)]) + "\n"

    quantities = [
        (f"`{name}`", kind.unit or "-", kind.direction, f"{kind.reference:g}", first_sentence(kind.__doc__))
        for name, kind in sorted(QUANTITIES.builtin.items())
    ]
    filters = [
        (
            f"`{f.name}`",
            "at least" if f.at_least else "at most",
            f.unit or "-",
            f"`{_shown(Filters.model_fields[f.name].default)}`",
            first_sentence(f.measure.__doc__),
        )
        for f in FILTERS
    ]
    strategies = [(f"`{name}`", first_sentence(kind.__doc__)) for name, kind in STRATEGIES.builtin.items()]
    process = [
        (f"`{f.name}`", f.unit or (f"one of {', '.join(f.words)}" if f.words else "a share"), f.label)
        for f in FIELDS.values()
    ]
    return "\n".join(
        [
            "# Names\n",
            "What `quantity`, `filters`, `strategy` and `process` may name. Packages may add more of the first three "
            "through entry points.\n",
            "## Quantities\n",
            table(("name", "unit", "better", "reference", "what it is"), quantities),
            "## Filters\n",
            table(("name", "threshold", "unit", "default", "what it is"), filters),
            "## Strategies\n",
            table(("name", "what it does"), strategies),
            "## Conditions of the process\n",
            table(("name", "unit or words", "what it is"), process),
        ]
    )


def first_sentence(text: str | None) -> str:
    """First sentence of a docstring, without its marks."""
    plain = re.sub(r":\w+:`~?([^`]+)`|``([^`]+)``", lambda m: f"`{m.group(1) or m.group(2)}`", text or "")
    return re.split(r"(?<=\.)\s", " ".join(plain.split("\n\n")[0].split()), maxsplit=1)[0]


# -- tutorials -------------------------------------------------------------------------------------------


def tutorial_pages(source: Path) -> dict[str, str | bytes]:
    """A tutorial as a page, with what its cells print and draw today."""
    import jupytext

    notebook = jupytext.read(source)
    if os.environ.get("DRX_DOCS_RUN", "1") != "0":
        run(notebook, source)
    pictures: dict[str, str | bytes] = {}
    parts = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
        elif cell.source.strip():
            parts.append(f"```python\n{cell.source}\n```")
            parts += list(_outputs(cell, source.stem, pictures))
    return {f"tutorials/{source.stem}.md": "\n\n".join(parts) + "\n", **pictures}


def run(notebook: Any, source: Path) -> None:
    """Run a notebook in an empty folder.

    Raises:
        PluginError: a cell failed.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    from campaigns.example import write_example

    python_path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    surroundings = {
        **os.environ,
        "PYTHONPATH": python_path,
        "OMP_NUM_THREADS": "1",
        "IPYTHONDIR": tempfile.gettempdir(),
    }
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "demo"
        write_example(folder)
        client = NotebookClient(
            notebook,
            timeout=_SECONDS,
            startup_timeout=_SECONDS,
            kernel_name="python3",
            resources={"metadata": {"path": str(folder)}},
        )
        try:
            client.create_kernel_manager()
            client.km.kernel_spec.argv[0] = sys.executable
            client.execute(env=surroundings)
        except CellExecutionError as error:
            raise PluginError(f"{source.name}: {error}") from None


def _outputs(cell: Any, name: str, pictures: dict[str, str | bytes]) -> Iterator[str]:
    """What a cell printed and drew, as Markdown."""
    for output in cell.get("outputs", []):
        shown = output.get("data", {})
        if "image/png" in shown:
            file = f"{name}-{len(pictures) + 1}.png"
            pictures[f"tutorials/{file}"] = base64.b64decode(shown["image/png"])
            yield f"![Picture {len(pictures)} of this tutorial]({file})"
        elif text := output.get("text") or shown.get("text/plain"):
            yield "```text\n" + text.rstrip() + "\n```"
