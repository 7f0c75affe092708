"""The models of a campaign: their files are kept in its ledger and cached in its folder.

Whoever works on the ledger has the models that it names, in whichever folder: what the folder lacks comes from the
ledger, and is checked by its SHA-256 whenever it is used.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

from campaigns.errors import LedgerError, LedgerUnreadable
from campaigns.ledger.ledger import Ledger
from campaigns.ledger.records import ModelRecord
from drxnet.checkpoint import ModelFiles, check_model, find_model, read_files, write_files
from drxnet.errors import CheckpointError, ModelNotFound, UsageError
from drxnet.names import check_name
from drxnet.text import typed

_log = logging.getLogger(__name__)


class ModelStore:
    """Models of one campaign, as seen from one folder."""

    def __init__(self, ledger: Ledger, folder: Path) -> None:
        """Look at the models of a ledger.

        Args:
            ledger: that keeps them.
            folder: of the campaign; they are cached in its folder ``models``.
        """
        self.ledger, self.folder = ledger, folder
        self._elsewhere: tempfile.TemporaryDirectory[str] | None = None

    def path(self, model: ModelRecord) -> Path:
        """Folder of a model, with its files, checked; fetched from the ledger where the folder lacks them.

        Raises:
            CheckpointError: they are neither in the folder nor in the ledger; the message names the way to get them.
            LedgerUnreadable: the ledger names a place outside the campaign's folder of models, or holds damaged files.
        """
        place = self._place(model)
        if _holds(place, model):
            return place
        files = self._files(model)
        if files is None:
            raise CheckpointError(self._lost(model, place))
        return self._cached(place, files, model)

    def has(self, model: ModelRecord) -> bool:
        """Whether the files of a model can be had."""
        return _holds(self._place(model), model) or self._files(model) is not None

    def keep(self) -> None:
        """Put models into the ledger that only this machine holds: those of a ledger from before it kept them.

        What cannot be written now is kept another time.
        """
        try:
            without = self.ledger.models_without_files()
            found = [(m, files) for m in without if (files := _read(self._place(m), m) or _installed(m)) is not None]
            if not found:
                return
            with self.ledger.write("keep") as entry:
                for _, files in found:
                    entry.keep_files(files)
                names = ", ".join(model.name for model, _ in found)
                entry.summary = f"the weights of {names} were in a folder alone and are now in the ledger"
        except LedgerError:
            _log.debug("models not kept", exc_info=True)

    def close(self) -> None:
        """Remove what could not be cached in the campaign's folder."""
        if self._elsewhere is not None:
            self._elsewhere.cleanup()
            self._elsewhere = None

    def _place(self, model: ModelRecord) -> Path:
        home, slash, name = model.path.partition("/")
        if home != "models" or not slash:
            raise LedgerUnreadable(
                f"{self.ledger.where}: says that model {model.name} lies in {model.path!r}. Models lie in "
                "`models/NAME` of the campaign's folder; the ledger was changed by other hands."
            )
        return self.folder / home / check_name(name, f"{self.ledger.where}: a model", LedgerUnreadable)

    def _files(self, model: ModelRecord) -> ModelFiles | None:
        """Files of a model that the folder lacks: from the ledger, or of the model that the campaign started with."""
        files = self.ledger.model_files(model.model_id)
        if files is not None:
            if files.sha256[:12] != model.model_id:
                raise LedgerUnreadable(
                    f"{self.ledger.where}: the weights that it keeps of model {model.name} ({model.model_id}) have "
                    f"another SHA-256, {files.sha256}; it is damaged. Restore it from a backup."
                )
            return files
        return _installed(model)

    def _cached(self, place: Path, files: ModelFiles, model: ModelRecord) -> Path:
        """Write the files of a model to its place; to one of this process where that cannot be written to."""
        if self.ledger.read_only:
            return self._aside(files, model)
        if place.exists():
            _log.warning("%s: held not model %s (%s); filled again.", place, model.name, model.model_id)
        try:
            write_files(place, files, replace=True)
        except (OSError, UsageError) as error:
            if _holds(place, model):  # another process was faster
                return place
            if isinstance(error, UsageError):
                raise
            return self._aside(files, model)
        return place

    def _aside(self, files: ModelFiles, model: ModelRecord) -> Path:
        """Write the files of a model to a folder of this process alone."""
        self._elsewhere = self._elsewhere or tempfile.TemporaryDirectory(prefix="drx-models-")
        place = Path(self._elsewhere.name) / model.model_id
        if not _holds(place, model):
            write_files(place, files, replace=True)
        return place

    def _lost(self, model: ModelRecord, place: Path) -> str:
        what = f"{place}: the weights of model {model.name} ({model.model_id}) are gone, and the ledger has no copy."
        if model.parent is None:
            return (
                f"{what} The campaign started with it, as {model.metrics.get('asked', 'a model')!r}: copy its folder "
                "here, or install it again with `drx-screen models import`."
            )
        if self.ledger.read().current_model.model_id != model.model_id:
            return f"{what} Another model is in use now, and only a copy of that folder brings this one back."
        return f"{what} `drx-screen finetune --campaign {typed(self.folder)}` learns it again; or copy the folder back."


def _installed(model: ModelRecord) -> ModelFiles | None:
    """Files of the model that a campaign started with, from where it was found then, if it is there still."""
    try:
        return _read(find_model(model.metrics["asked"]), model) if model.parent is None else None
    except (KeyError, ModelNotFound):
        return None


def _read(place: Path, model: ModelRecord) -> ModelFiles | None:
    """Files in a folder, where they are those of the model."""
    try:
        files = read_files(place)
    except CheckpointError:
        return None
    return files if files.sha256[:12] == model.model_id else None


def _holds(place: Path, model: ModelRecord) -> bool:
    try:
        return check_model(place).model_id == model.model_id
    except CheckpointError:
        return False
