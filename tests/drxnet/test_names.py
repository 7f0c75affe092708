from __future__ import annotations

import errno
from pathlib import Path

import pytest

from drxnet.errors import ConfigurationError, UsageError
from drxnet.names import check_name, found, hint, hint_or_all, nearest


@pytest.mark.parametrize("name", ["default", "drxnet-2024", "HE_1.b", "9", "a" * 63])
def test_a_plain_name_comes_back(name):
    assert check_name(name, "A model") == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".hidden", "-x", "a/b", "/etc", "../a", "a\\b", "C:x", "a\n", "a\0", "a b", "ä", "~", "a" * 64],
)
def test_a_name_that_could_lead_elsewhere_is_refused(name):
    with pytest.raises(ConfigurationError, match=r"A model's name holds letters, digits.*Got"):
        check_name(name, "A model")
    with pytest.raises(UsageError, match="A campaign's name"):
        check_name(name, "A campaign", UsageError)


@pytest.mark.parametrize(
    ("given", "meant"),
    [("batchsize", "batch_size"), ("Batch Size", "batch_size"), ("MIN-DISTANCE", "min_distance"), ("xyz", None)],
)
def test_what_was_probably_meant_is_found_whatever_its_capitals_and_dashes(given, meant):
    assert nearest(given, ["batch_size", "min_distance"]) == meant


def test_a_hint_names_the_nearest_and_else_what_there_is():
    assert hint("tinny", ["tiny", "lmof"]) == "Did you mean tiny? "
    assert hint("xyz", ["tiny", "lmof"]) == ""
    assert hint_or_all("tinny", ["tiny", "lmof"]) == "Did you mean tiny?"
    assert hint_or_all("xyz", ["tiny", "lmof"]) == "Known: tiny, lmof."


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 3000, "x\0"], ids=["long", "deep", "nul"])
def test_a_name_that_no_path_can_have_is_none(name):
    assert not found(Path(name).is_file)
    assert not found(Path(name).is_dir)


def test_what_cannot_be_told_is_not_called_absent():
    def look():
        raise PermissionError(errno.EACCES, "denied")

    with pytest.raises(PermissionError):
        found(look)
