"""The YAML of a new campaign: what it was started from, with every other key and its default as a comment."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from drxnet.yaml_files import shipped_folder

SCHEMA = "campaign.schema.json"
LINE = "# yaml-language-server: $schema="
"""Start of the line by which editors find the schema."""

_KEY = re.compile(r"(?P<pad> *)(?P<key>\w+):(?P<rest>.*)$")
_WIDTH = 110
_HEAD = "## Every key stands here. Those behind one # have their default; take the # away to change one.\n"


@cache
def schema(name: str = SCHEMA) -> Mapping[str, Any]:
    """A JSON Schema that ships in the package ``configs``."""
    found: dict[str, Any] = json.loads((shipped_folder("schemas") / name).read_text(encoding="utf-8"))
    return found


def schema_path() -> Path:
    """Where the schema of a campaign is installed."""
    return shipped_folder("schemas") / SCHEMA


def commented(text: str) -> str:
    """Add what an editor needs, and every key that is not there, as a comment with its default.

    A line of ``##`` says what a key is for; with one ``# `` less, the line below it is in force.

    Args:
        text: YAML of a campaign.
    """
    head = f"{LINE}{schema_path().resolve().as_uri()}\n"
    if LINE in text:  # it was made so already
        return head + re.sub(rf"^{re.escape(LINE)}.*\n", "", text, flags=re.MULTILINE)
    body = "\n".join(_filled(text.rstrip().split("\n"), schema(), ""))
    return f"{head}{_HEAD}{body}\n"


def _filled(lines: list[str], part: Mapping[str, Any], pad: str) -> list[str]:
    """A block with all keys of its part of the schema, in the order of what is there."""
    blocks = dict(_blocks(lines, pad))
    filled = [
        line for key, block in blocks.items() for line in _completed(key, block, part["properties"].get(key), pad)
    ]
    offered = ((key, about) for key, about in part["properties"].items() if key not in blocks)
    return filled + [line for key, about in offered for line in _offered(key, about, pad)]


def _completed(key: str, block: list[str], about: Mapping[str, Any] | None, pad: str) -> list[str]:
    """A key that is there, with the further keys that it may hold."""
    keys, inner = _keys(about or {}), block[1:]
    if not keys:
        return block
    if re.fullmatch(rf"{pad}\w+:\s*(#.*)?", block[0]) and inner and not inner[0].lstrip().startswith("-"):
        return [block[0], *_filled(inner, keys, pad + _indent(inner, pad))]
    return [*block, *_wrapped(f"{key} may hold: {', '.join(keys['properties'])}", pad)]


def _blocks(lines: list[str], pad: str) -> Iterable[tuple[str, list[str]]]:
    """Keys at an indent, each with its lines; what stands before the first goes with the first."""
    key, block = "", list[str]()
    for line in lines:
        found = _KEY.match(line)
        if found and found["pad"] == pad:
            if key:
                yield key, block
                block = []
            key = found["key"]
        block.append(line)
    if key:
        yield key, block


def _indent(lines: list[str], pad: str) -> str:
    """How much deeper the first key of a block stands."""
    first = next((line for line in lines if _KEY.match(line)), pad + "  ")
    return " " * (len(first) - len(first.lstrip()) - len(pad))


def _keys(about: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The mapping that a value may be, or each of its items, if its keys are known."""
    if "$ref" in about:
        found: Mapping[str, Any] = schema()["$defs"][about["$ref"].rpartition("/")[2]]
        return found if "properties" in found else None
    if "items" in about:
        return _keys(about["items"])
    return next(filter(None, map(_keys, about.get("anyOf", []))), None)


def _offered(key: str, about: Mapping[str, Any], pad: str) -> list[str]:
    """A key that is not there, as a comment: what it is for, and its default."""
    keys = _keys(about)
    lines = _wrapped(about.get("description") or (keys or {}).get("description", ""), pad)
    if keys and "$ref" in about:
        return [*lines, f"{pad}# {key}:", *_offered_inside(keys, pad)]
    if keys:
        lines += _wrapped(f"Each may hold: {', '.join(keys['properties'])}", pad)
    default = about.get("default", {} if about.get("type") == "object" else None)
    value = yaml.safe_dump(default, default_flow_style=True, width=10_000).strip().removesuffix("...").strip()
    return [*lines, f"{pad}# {key}: {value}"]


def _offered_inside(keys: Mapping[str, Any], pad: str) -> list[str]:
    """The keys of a mapping that is not there."""
    inner = [line for name, one in keys["properties"].items() for line in _offered(name, one, "")]
    return [f"{pad}#   {line[2:]}" if line.startswith("# ") else f"{pad}{line}" for line in inner]


def _wrapped(text: str, pad: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=f"{pad}## ", subsequent_indent=f"{pad}## ")
