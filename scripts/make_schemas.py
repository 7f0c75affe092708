"""Write the JSON Schemas of the YAML files, from the models that read them: ``python scripts/make_schemas.py``.

They ship in the package ``configs``: editors complete and check by them, `drx-screen init` lists every key from them,
and the reference of the documentation is made of them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, with_config

from campaigns.spec import CampaignSpec
from drxnet.finetuning import FineTuningOptions
from drxnet.process import FIELDS
from drxnet.training import TrainingOptions
from screening.space import CandidateSpace

TARGET = Path(__file__).parents[1] / "configs" / "schemas"
_ROLE = re.compile(r":\w+:`~?([^`]+)`|``([^`]+)``|`([^`]+)`")


def of_dataclass(options: type) -> dict[str, Any]:
    """Schema of options that are a dataclass, with the docstrings of its fields."""
    return TypeAdapter(with_config(ConfigDict(use_attribute_docstrings=True, extra="forbid"))(options)).json_schema()


def plain(part: Any) -> Any:
    """Leave out the titles that repeat a key, and the marks of a docstring."""
    if isinstance(part, list):
        return [plain(p) for p in part]
    if not isinstance(part, dict):
        return part
    kept = {k: plain(v) for k, v in part.items() if k != "title" or not isinstance(v, str)}
    if isinstance(text := kept.get("description"), str):
        kept["description"] = " ".join(_ROLE.sub(lambda m: "".join(filter(None, m.groups())), text).split())
    return kept


def schemas() -> dict[str, dict[str, Any]]:
    """Every schema by the kind of YAML that it is for."""
    space = CandidateSpace.model_json_schema(ref_template="#/$defs/{model}")
    campaign = CampaignSpec.model_json_schema(ref_template="#/$defs/{model}")
    inner = space.pop("$defs")
    campaign["$defs"] |= {"CandidateSpace": {**space}, **inner, "FineTuningOptions": of_dataclass(FineTuningOptions)}
    del campaign["properties"]["folder"]
    about = campaign["properties"]["space"]["description"]
    campaign["properties"]["space"] = {
        "anyOf": [{"type": "string"}, {"$ref": "#/$defs/CandidateSpace"}],
        "description": about,
    }
    process = campaign["$defs"]["Rates"]["properties"]["process"]
    process["default"] = {}
    for name, about in process["properties"].items():
        about["description"] = f"{FIELDS[name].label} ({FIELDS[name].unit or 'a word'}).".capitalize()
    options = campaign["$defs"]["FineTuning"]["properties"]["options"]
    campaign["$defs"]["FineTuning"]["properties"]["options"] = {
        "$ref": "#/$defs/FineTuningOptions",
        "description": options["description"],
        "default": {},
    }
    found = {"campaign": campaign, "space": {**space, "$defs": inner}, "training": of_dataclass(TrainingOptions)}
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return {kind: {**head, **plain(schema)} for kind, schema in found.items()}


if __name__ == "__main__":
    TARGET.mkdir(exist_ok=True)
    for kind, schema in schemas().items():
        (TARGET / f"{kind}.schema.json").write_text(json.dumps(schema, indent=1, ensure_ascii=False) + "\n")
