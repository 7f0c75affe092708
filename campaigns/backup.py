"""A campaign as one file, and a campaign from it: for the day on which the disk, or somebody, is faster.

A backup is a zip file: the YAML and what it refers to, the models, the rounds, and the ledger as it was at one instant,
whoever writes to it meanwhile. ``MANIFEST.json`` holds the SHA-256 of each. A campaign can be rebuilt from an export as
JSON, too, which holds every row of the ledger.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

from campaigns.errors import LedgerUnreadable
from campaigns.ledger.database import sqlite_url
from campaigns.ledger.ledger import Ledger
from campaigns.spec import FILE_NAME, LEDGER_NAME, CampaignSpec, read_spec
from campaigns.workspace import Workspace
from drxnet.errors import ConfigurationError, DataRefused, UsageError
from drxnet.files import NEW, new_file, new_folder, replace_file, sync_folder
from drxnet.names import check_name

MANIFEST, DUMP = "MANIFEST.json", "ledger.json"
FORMAT = 1
_BYTES = 16 << 30
_FOLDERS = ("models", "rounds")


def backup(campaign: Workspace, target: Path) -> int:
    """Write a backup of a campaign, while others may go on writing to it.

    Args:
        campaign: of which.
        target: ``.zip`` to write; an older one there is replaced once the new one is whole.

    Returns:
        Number of events that it holds.

    Raises:
        UsageError: the target is no zip file.
        LedgerUnreadable: the ledger is damaged; an older backup is better.
    """
    if target.suffix.lower() != ".zip":
        raise UsageError(f"{target}: a backup is a .zip file.")
    with tempfile.TemporaryDirectory(prefix="drx-backup-") as aside:
        ledger = _ledger_at_one_instant(campaign, Path(aside))
        contents = dict(_files_of(campaign)) | {ledger.name: ledger}
        with new_file(target) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            sums = {}
            for name, path in sorted(contents.items()):
                try:
                    content = path.read_bytes()
                except FileNotFoundError:  # a file of a round that was just replaced
                    continue
                sums[name] = hashlib.sha256(content).hexdigest()
                archive.writestr(name, content)
            events = _events_in(ledger, campaign.name)
            manifest = {
                "format": FORMAT,
                "campaign": campaign.name,
                "made": datetime.now(UTC).isoformat(timespec="seconds"),
                "drx-screen": metadata.version("drx-screen"),
                "events": events,
                "sha256": sums,
            }
            archive.writestr(MANIFEST, json.dumps(manifest, indent=1))
    return events


def restore(source: Path, folder: Path | None = None) -> Path:
    """Bring a campaign back from a backup.

    Args:
        source: what :func:`backup` wrote.
        folder: new folder; by default one of the campaign's name here.

    Returns:
        The folder.

    Raises:
        DataRefused: it is no backup, or damaged; nothing was changed.
        UsageError: the folder is there already, or the campaign is in its database.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            manifest = _manifest(source, archive)
            folder = Path.cwd() / manifest["campaign"] if folder is None else folder
            _refuse_to_overwrite(folder)
            with new_folder(folder.resolve().parent) as partial:
                unpacked = partial / "unpacked"
                for name, digest in manifest["sha256"].items():
                    content = archive.read(name)
                    if hashlib.sha256(content).hexdigest() != digest:
                        raise DataRefused(f"{source}: {name} in it is damaged. Take another backup.")
                    replace_file(unpacked / name, content)
                spec = read_spec(unpacked)
                if (unpacked / DUMP).is_file():
                    content = json.loads((unpacked / DUMP).read_text(encoding="utf-8"))
                    (unpacked / DUMP).unlink()
                    _rebuild(spec, unpacked, content)
                else:
                    _refuse_damaged(Ledger(sqlite_url(unpacked / LEDGER_NAME), spec.name, read_only=True))
                _move(unpacked, folder)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, KeyError, NotImplementedError, EOFError, ValueError) as error:
        raise DataRefused(f"{source}: not a backup of drx-screen, or damaged ({error}).") from None
    return folder


def rebuild(source: Path, folder: Path) -> Path:
    """Build a campaign from an export as JSON: the same events, predictions, profiles and models.

    Args:
        source: what ``drx-screen export --form json`` wrote.
        folder: new folder; its name is the campaign's name.

    Raises:
        DataRefused: it is no such export, or damaged; nothing was changed.
        UsageError: the folder is there already, or the campaign is in its database.
    """
    name = check_name(folder.resolve().name, "A campaign")
    _refuse_to_overwrite(folder)
    try:
        content = json.loads(source.read_text(encoding="utf-8"))["rebuild"]
        files, ledger = dict(content["files"]), content["ledger"]
        if not all(isinstance(text, str) for text in files.values()) or FILE_NAME not in files:
            raise ValueError(f"it holds no {FILE_NAME}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataRefused(
            f"{source}: holds no campaign ({error}). `drx-screen export FILE.json` of this version writes one."
        ) from None
    with new_folder(folder.resolve().parent) as partial:
        unpacked = partial / name
        for file, text in files.items():
            check_name(file, f"{source}: a file", DataRefused)
            replace_file(unpacked / file, text.encode())
        text = re.sub(r"^name:.*\n", "", files[FILE_NAME], flags=re.MULTILINE)
        replace_file(unpacked / FILE_NAME, f"name: {name}\n{text}".encode())
        _rebuild(read_spec(unpacked), unpacked, ledger)
        _move(unpacked, folder)
    return folder


def everything(campaign: Workspace) -> dict[str, Any]:
    """What :func:`rebuild` needs: the files that a campaign was started from and every row of its ledger."""
    files = {path.name: path.read_text(encoding="utf-8") for path in _of_the_chemist(campaign)}
    return {"files": files, "ledger": campaign.ledger.dump()}


def _of_the_chemist(campaign: Workspace) -> Iterator[Path]:
    yield campaign.folder / FILE_NAME
    space = campaign.spec.space
    if isinstance(space, str) and Path(space).suffix and (campaign.folder / space).is_file():
        yield campaign.folder / space


def _files_of(campaign: Workspace) -> Iterator[tuple[str, Path]]:
    for path in _of_the_chemist(campaign):
        yield path.name, path
    for home in _FOLDERS:
        for path in sorted((campaign.folder / home).rglob("*")):
            parts = path.relative_to(campaign.folder).parts
            if path.is_file() and not path.is_symlink() and not any(part.startswith(".") for part in parts):
                yield "/".join(parts), path


def _ledger_at_one_instant(campaign: Workspace, aside: Path) -> Path:
    if campaign.ledger.url.get_backend_name() == "sqlite":
        campaign.ledger.copy_to(aside / LEDGER_NAME)
        return aside / LEDGER_NAME
    (aside / DUMP).write_text(json.dumps(campaign.ledger.dump()), encoding="utf-8")  # partial until it is in the zip
    return aside / DUMP


def _events_in(ledger: Path, name: str) -> int:
    if ledger.name == DUMP:
        return len(json.loads(ledger.read_text(encoding="utf-8"))["tables"]["events"])
    with contextlib.closing(Ledger(sqlite_url(ledger), name, read_only=True)) as copy:
        return len(copy.read().events)


def _manifest(source: Path, archive: zipfile.ZipFile) -> Mapping[str, Any]:
    if sum(member.file_size for member in archive.infolist()) > _BYTES:
        raise DataRefused(f"{source}: unpacks to more than {_BYTES >> 30} GiB.")
    manifest = json.loads(archive.read(MANIFEST))
    if manifest["format"] > FORMAT:
        raise DataRefused(f"{source}: written by a newer drx-screen. Upgrade.")
    check_name(manifest["campaign"], f"{source}: a campaign", DataRefused)
    for name in manifest["sha256"]:
        parts = PurePosixPath(name).parts
        if not parts or "\\" in name or name != "/".join(parts) or any(p.startswith((".", "/")) for p in parts):
            raise DataRefused(f"{source}: holds {name!r}, which is no file of a campaign.")
    return dict(manifest)


def _rebuild(spec: CampaignSpec, folder: Path, content: Mapping[str, Any]) -> None:
    url = spec.ledger_url(folder)
    if Ledger.is_there(url, spec.name):
        raise UsageError(f"The database of campaign {spec.name} holds it already; nothing was changed.")
    ledger = Ledger.rebuild(url, spec.name, content)
    try:
        _refuse_damaged(ledger)
    except BaseException:
        ledger.drop()
        raise


def _refuse_damaged(ledger: Ledger) -> None:
    with contextlib.closing(ledger):
        wrong = [finding for finding in ledger.findings() if not finding.sound]
    if wrong:
        raise LedgerUnreadable(f"The ledger in it is damaged: {wrong[0].what}: {wrong[0].said}. Take another backup.")


def _refuse_to_overwrite(folder: Path) -> None:
    if os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise UsageError(f"{folder}: is there already, and nothing is overwritten. Give a new folder.")


def _move(unpacked: Path, folder: Path) -> None:
    if folder.name.startswith(NEW):
        raise ConfigurationError(f"{folder}: begins like an unfinished file.")
    unpacked.rename(folder)
    sync_folder(folder.resolve().parent)
