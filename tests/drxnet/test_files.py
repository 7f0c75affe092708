from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from drxnet import files
from drxnet.files import (
    new_file,
    new_folder,
    put_folder,
    replace_file,
    resumed_folder,
    save_figure,
    sweep,
    sweep_resumed,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_as_a_whole_and_nothing_else_is_left(tmp_path):
    replace_file(tmp_path / "deep" / "a.csv", b"old")
    replace_file(tmp_path / "deep" / "a.csv", b"new")
    assert (tmp_path / "deep" / "a.csv").read_bytes() == b"new"
    assert names(tmp_path / "deep") == ["a.csv"]


def test_a_body_that_fails_leaves_the_old_file(tmp_path):
    replace_file(tmp_path / "a.csv", b"old")

    def half() -> None:
        with new_file(tmp_path / "a.csv") as partial:
            partial.write_bytes(b"ha")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        half()
    assert (tmp_path / "a.csv").read_bytes() == b"old"
    assert names(tmp_path) == ["a.csv"]


def test_content_and_folder_are_on_the_disk_before_and_after_the_rename(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append(Path(f"/proc/self/fd/{fd}").readlink().suffix), fsync(fd)))
    monkeypatch.setattr(Path, "replace", lambda self, to: (done.append("rename"), replace(self, to))[1])
    replace_file(tmp_path / "a.csv", b"x")
    assert done == [".csv", "rename", ""]


def test_a_long_name_a_link_and_a_device_are_written_to(tmp_path):
    replace_file(tmp_path / ("n" * 250 + ".csv"), b"x")
    (tmp_path / "real").mkdir()
    (tmp_path / "link.csv").symlink_to(tmp_path / "real" / "a.csv")
    replace_file(tmp_path / "link.csv", b"x")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real" / "a.csv").read_bytes() == b"x"
    replace_file(Path(os.devnull), b"x")
    assert not Path(os.devnull).is_file()


def test_a_new_file_has_the_permissions_that_files_have(tmp_path):
    replace_file(tmp_path / "a", b"")
    (tmp_path / "b").write_bytes(b"")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_a_figure_is_drawn_in_the_form_of_its_suffix(tmp_path):
    from matplotlib.figure import Figure

    for suffix, begins in ((".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")):
        save_figure(Figure(figsize=(1, 1)), tmp_path / f"a{suffix}", dpi=20)
        assert (tmp_path / f"a{suffix}").read_bytes().startswith(begins)
    assert len(names(tmp_path)) == 3


def test_a_folder_is_filled_aside(tmp_path):
    with new_folder(tmp_path) as partial:
        (partial / "kept").mkdir()
        (partial / "kept").rename(tmp_path / "kept")
    assert names(tmp_path) == ["kept"]


@pytest.mark.parametrize("exchanges", [True, False], ids=["exchange", "two renames"])
def test_a_folder_takes_the_place_of_another(tmp_path, monkeypatch, exchanges):
    if not exchanges:
        monkeypatch.setattr(files, "_exchanged", lambda one, other: False)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").write_bytes(b"")
    with new_folder(tmp_path) as partial:
        (partial / "new").mkdir()
        (partial / "new" / "new").write_bytes(b"")
        put_folder(partial / "new", tmp_path / "model")
    assert names(tmp_path) == ["model"]
    assert names(tmp_path / "model") == ["new"]


def test_a_folder_that_was_put_aside_comes_back_when_its_place_stayed_empty(tmp_path):
    aside = tmp_path / f"{files.NEW}0" / "old"
    for name in ("model", "taken"):
        (aside / name).mkdir(parents=True)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "new").write_bytes(b"")
    sweep(tmp_path)
    assert names(tmp_path) == [f"{files.NEW}0", "model", "taken"]
    assert names(tmp_path / "taken") == ["new"]


def test_a_folder_to_go_on_from_stays_when_its_work_fails_and_goes_when_it_is_done(tmp_path):
    folder = tmp_path / "rounds" / f"{files.RESUMED}1"

    def fail() -> None:
        with resumed_folder(folder) as given:
            given.mkdir()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert folder.is_dir()
    with resumed_folder(folder) as given, resumed_folder(folder) as other:
        assert (given, other) == (folder, None)
        sweep_resumed(folder.parent)
        assert folder.is_dir()
    assert names(folder.parent) == []


def test_folders_to_go_on_from_are_swept_when_they_are_forgotten(tmp_path):
    for name in ("old", "young"):
        (tmp_path / f"{files.RESUMED}{name}").mkdir()
        (tmp_path / f"{files.RESUMED}{name}.lock").write_bytes(b"")
    long_ago = time.time() - 8 * 24 * 3600
    for end in ("", ".lock"):
        os.utime(tmp_path / f"{files.RESUMED}old{end}", (long_ago, long_ago))
    sweep(tmp_path)
    assert names(tmp_path) == [f"{files.RESUMED}young", f"{files.RESUMED}young.lock"]
    sweep_resumed(tmp_path)
    assert names(tmp_path) == []


def test_what_a_killed_process_left_is_swept_once_it_is_old(tmp_path):
    for name in ("old.csv", "young.csv"):
        (tmp_path / f"{files.NEW}{name}").write_bytes(b"ha")
    (tmp_path / f"{files.NEW}folder").mkdir()
    (tmp_path / f"{files.NEW}folder" / "x").write_bytes(b"")
    (tmp_path / ".hidden").write_bytes(b"mine")
    (tmp_path / "outside").mkdir()
    (tmp_path / f"{files.NEW}link").symlink_to(tmp_path / "outside")
    an_hour_ago = time.time() - 4000
    for name in ("old.csv", "folder", "link"):
        os.utime(tmp_path / f"{files.NEW}{name}", (an_hour_ago, an_hour_ago), follow_symlinks=False)
    os.utime(tmp_path / ".hidden", (an_hour_ago, an_hour_ago))
    sweep(tmp_path)
    assert names(tmp_path) == [".hidden", f"{files.NEW}young.csv", "outside"]
    sweep(tmp_path / "absent")


def test_only_the_one_writer_opens_files_for_writing():
    root = Path(__file__).parents[2]
    allowed = {"drxnet/files.py", "campaigns/cli/console.py"}  # /dev/null
    aside = {
        "drxnet/checkpoint.py",
        "campaigns/intake/readers/unpacking.py",
        "campaigns/testing.py",
    }  # in folders of their own
    found = []
    for package in ("drxnet", "screening", "campaigns"):
        for path in (root / package).rglob("*.py"):
            name = str(path.relative_to(root))
            for line in path.read_text().splitlines():
                writes = any(
                    w in line for w in (".write_text(", ".write_bytes(", "savefig(", '.open("w', 'open("w', "copyfile(")
                )
                if writes and "partial" not in line and name not in allowed | aside:
                    found.append(f"{name}: {line.strip()}")
    assert found == []
