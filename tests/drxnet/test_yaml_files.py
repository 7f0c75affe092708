from __future__ import annotations

import time

import pytest

from drxnet.errors import ConfigurationError
from drxnet.yaml_files import read_yaml

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(9)
)


def test_a_plain_file_is_read(tmp_path):
    (tmp_path / "a.yaml").write_text("space: tiny\nlithium: [1.1, 1.3]\nnote: Nb₂O₅ & C\n", encoding="utf-8")
    assert read_yaml(tmp_path / "a.yaml") == {"space": "tiny", "lithium": [1.1, 1.3], "note": "Nb₂O₅ & C"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(LAUGHS, "line 1: holds a reference", id="a-billion-laughs"),
        pytest.param("space: &x {a: *x}", "holds a reference", id="in-itself"),
        pytest.param("x: " + "[" * 100_000 + "]" * 100_000, "nested deeper than 30", id="deep-flow"),
        pytest.param("\n".join(" " * i + "a:" for i in range(500)), "nested deeper than 30", id="deep-block"),
        pytest.param("a: b\n" * 300_000, "larger than 1 MiB", id="large"),
        pytest.param("seed: " + "1" * 6000, "not a YAML file", id="a-number-without-end"),
        pytest.param("day: 2001-99-99", "not a YAML file", id="no-date"),
        pytest.param("a: \0", "not a YAML file", id="nul"),
        pytest.param("a: [1", "not a YAML file", id="torn"),
        pytest.param("!!python/object/apply:os.system ['id']", "not a YAML file", id="code"),
        pytest.param("a: 1\n---\nb: 2\n", "not a YAML file", id="two-documents"),
        pytest.param(b"a: \xff\xfe", "not a YAML file", id="no-utf-8"),
    ],
)
def test_what_is_no_configuration_is_refused_at_once(tmp_path, content, says):
    path = tmp_path / "a.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    begun = time.monotonic()
    with pytest.raises(ConfigurationError, match=f"a.yaml.*{says}"):
        read_yaml(path)
    assert time.monotonic() - begun < 10
