from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from campaigns.spec import parse_spec
from campaigns.template import LINE, commented, schema, schema_path
from configs import shipped

ROOT = Path(__file__).parents[2]
KINDS = {"campaign": "campaigns", "space": "spaces", "training": "models"}


def in_force(text: str) -> str:
    """The text with one # less before every key that is a comment."""
    return re.sub(r"^( *)# (?=[ \w])", r"\1", text.replace(LINE, "## "), flags=re.MULTILINE)


def test_the_schemas_are_those_of_the_models():
    script = importlib.util.spec_from_file_location("make_schemas", ROOT / "scripts" / "make_schemas.py")
    assert script is not None
    assert script.loader is not None
    made = importlib.util.module_from_spec(script)
    script.loader.exec_module(made)
    for kind, found in made.schemas().items():
        assert schema(f"{kind}.schema.json") == json.loads(json.dumps(found)), "run python scripts/make_schemas.py"


@pytest.mark.parametrize("kind", KINDS)
def test_every_shipped_file_keeps_to_its_schema_and_every_key_says_what_it_is_for(kind: str):
    about = schema(f"{kind}.schema.json")
    Draft202012Validator.check_schema(about)
    for path in shipped(KINDS[kind]).values():
        Draft202012Validator(about).validate(yaml.safe_load(path.read_text()))
    for part in (about, *about.get("$defs", {}).values()):
        assert [k for k, v in part["properties"].items() if not v.get("description") and "$ref" not in v] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"space": "tiny", "lab": {"stock": []}},
        {"space": "tiny", "batch_size": 0},
        {"space": {"step": "1/20", "lithium": [1, 2, 3], "fluorine": 0, "species": ["Mn3+"]}},
        {"space": "tiny", "fine_tuning": {"options": {"stepps": 3}}},
    ],
    ids=["unknown key", "out of range", "three bounds", "unknown option"],
)
def test_the_schema_refuses_what_the_campaign_would(wrong: dict[str, object]):
    assert not Draft202012Validator(schema()).is_valid(wrong)


@pytest.mark.parametrize("name", shipped("campaigns"))
def test_a_new_yaml_says_what_its_template_says_and_holds_every_key_with_its_default(name: str):
    text = shipped("campaigns")[name].read_text()
    filled = commented(text)
    assert filled.startswith(LINE + schema_path().as_uri())
    assert yaml.safe_load(filled) == yaml.safe_load(text)
    bare, whole = parse_spec(yaml.safe_load(text)), yaml.safe_load(in_force(filled))
    assert set(schema()["properties"]) <= whole.keys()
    if not bare.fine_tuning.options:  # spelt out, they are the defaults of the schema
        options = schema()["$defs"]["FineTuningOptions"]["properties"]
        assert whole["fine_tuning"].pop("options") == {k: v["default"] for k, v in options.items()}
    assert parse_spec(whole).resolved() == bare.resolved()
    assert commented(filled) == filled, "a campaign that is started from another one"


def test_keys_of_a_block_that_is_there_are_offered_inside_it():
    filled = commented("space:\n  step: 1/20\n  filters:\n    precursors: 5\nlab: {banned: [V]}\n")
    assert re.search(r"^    # metal_entropy: null$", filled, re.MULTILINE)
    assert re.search(r"^  # quotas: \[\]$", filled, re.MULTILINE)
    assert re.search(r"^## lab may hold: .*max_precursors", filled, re.MULTILINE)
