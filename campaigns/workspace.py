"""An opened campaign: its folder, its specification and its ledger. Every verb takes one; it calls none of them."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from campaigns.errors import NotBegun
from campaigns.ledger.ledger import Ledger
from campaigns.ledger.models import ModelStore
from campaigns.ledger.records import ModelRecord, NewModel, Snapshot
from campaigns.spec import FILE_NAME, LITERATURE, CampaignSpec, find_spec, read_spec
from campaigns.template import commented
from drxnet.checkpoint import ModelCard, check_model, find_model, read_card, read_files
from drxnet.errors import ConfigurationError, ModelNotFound
from drxnet.files import replace_file, sweep
from drxnet.names import check_name
from drxnet.text import typed

if TYPE_CHECKING:
    from drxnet.ensemble import Ensemble
    from screening.goals import Goals


class Workspace:
    """An opened campaign. All state lives in the ledger; two objects on one campaign see the same."""

    def __init__(self, source: str | Path, *, command: str = "python", read_only: bool | None = None) -> None:
        """Open a campaign; the first use of a YAML or of a shipped campaign starts it in the folder ``./NAME``.

        Args:
            source: a campaign's folder, a YAML file, or the name of a shipped campaign.
            command: what the event log says was run.
            read_only: nothing is written, started or brought up to date; by default where the folder cannot be
                written to.

        Raises:
            NotBegun: it is to be read and has not begun.
            ConfigurationError: no such campaign, its YAML is wrong, or asks for another model than the one that the
                campaign's rounds and measurements rest on.
            ModelNotFound: there is no such model.
            LedgerError: its ledger cannot be used.
        """
        self.folder = _folder_of(source, begin=not read_only)
        self.read_only = not os.access(self.folder, os.W_OK) if read_only is None else read_only
        if not self.read_only:
            for place in (self.folder, *(self.folder / name for name in ("models", "rounds", "report"))):
                sweep(place)
        self.spec: CampaignSpec = read_spec(self.folder)
        begins = self._open_ledger(source, command)
        self.models = ModelStore(self.ledger, self.folder)
        try:
            if begins:
                self.models.path(self.ledger.first_model())
            self._follow_model()
            if not self.read_only:
                self.models.keep()
        except BaseException:
            self.close()
            raise

    def _open_ledger(self, source: str | Path, command: str) -> bool:
        """Open the ledger, and say whether it is one that begins."""
        url, name = self.spec.ledger_url(self.folder), self.spec.name
        begins = not Ledger.is_there(url, name, read_only=self.read_only)
        if begins and self.read_only:
            raise NotBegun(_not_begun(name, source))
        if begins:
            self.ledger = Ledger.create(url, name, _first_model(self.spec), command=command)
        else:
            self.ledger = Ledger(url, name, command=command, read_only=self.read_only)
        self.ledger.lens = {
            "staircase": self.spec.first_cycle == "staircase",
            "as_analysed": self.spec.composition == "measured",
        }
        return begins

    @classmethod
    def open(cls, source: str | Path, *, command: str = "python", read_only: bool | None = None) -> Self:
        """Open a campaign; the same as calling the class."""
        return cls(source, command=command, read_only=read_only)

    @classmethod
    def start(
        cls, folder: str | Path, template: str | Path, *, learn_from: Sequence[str] = (), command: str = "python"
    ) -> Self:
        """Start a campaign in a new folder: its YAML, its ledger and a copy of its first model.

        Args:
            folder: to create; its name is the campaign's name.
            template: a shipped campaign, a YAML file or another campaign's folder.
            learn_from: folders of campaigns, or ``literature``, beside those that the template names.
            command: what the event log says was run.

        Raises:
            ConfigurationError: the folder holds a campaign already, or the template or another campaign is wrong.
        """
        folder = Path(folder)
        if (folder / FILE_NAME).exists():
            raise ConfigurationError(f"{folder}: holds a campaign already. Choose another name, or use it as it is.")
        _write_template(find_spec(template), folder, learn_from)
        return cls(folder, command=command)

    @property
    def name(self) -> str:
        """Name of the campaign."""
        return self.spec.name

    def state(self, as_of: int | None = None) -> Snapshot:
        """Everything the campaign knows, now or right after a round was recorded."""
        return self.ledger.read(as_of)

    def goals(self, state: Snapshot, as_of: int | None = None) -> Goals:
        """Conditions, objectives and constraints: today's, or those that a past round was chosen by."""
        if as_of is None or not state.rounds:
            return self.spec.goals
        return self.spec.as_recorded(state.rounds[-1].spec).goals

    def model_path(self, model: ModelRecord) -> Path:
        """Folder of a model of this campaign, with its files; see :meth:`campaigns.ledger.models.ModelStore.path`."""
        return self.models.path(model)

    def ensemble(self, model: ModelRecord | None = None, *, device: str = "cpu") -> Ensemble:
        """Load a model of this campaign, by default the current one.

        Raises:
            CheckpointError: its files are lost; the message names the way to get them.
        """
        from drxnet.ensemble import Ensemble

        return Ensemble.load(self.model_path(model or self.state().current_model), device=device)

    def close(self) -> None:
        """Give back the connections to the ledger."""
        self.models.close()
        self.ledger.close()

    def _follow_model(self) -> None:
        """Start from the model that the YAML asks for now, as long as nothing rests on the one before."""
        start = self.ledger.first_model()
        asked = start.metrics.get("asked", self.spec.model)
        if asked == self.spec.model:
            return
        begun = _is_begun(self.ledger.read())
        source, card = self._asked_model(begun=begun)
        if card is not None and card.model_id == start.model_id:
            return
        if card is None or source is None or begun:
            raise ConfigurationError(
                f"{self.folder / FILE_NAME}: asks for model {self.spec.model!r}, but campaign {self.name} started "
                f"with {asked!r} ({start.model_id}), and its rounds and measurements rest on that one. Write "
                f"`model: {asked}` again, or start another campaign: drx-screen init NAME --from {typed(self.folder)}"
            )
        if not self.read_only:
            self._begin_with(source, card, instead_of=start)

    def _asked_model(self, *, begun: bool) -> tuple[Path | None, ModelCard | None]:
        """Folder and card of the model that the YAML asks for; None where it is lost to a campaign that has begun."""
        try:
            source = find_model(self.spec.model_source)
            return source, read_card(source)
        except ModelNotFound as error:
            if not begun:
                raise ModelNotFound(f"{self.folder / FILE_NAME}: {error}") from None
            return None, None

    def _begin_with(self, source: Path, card: ModelCard, *, instead_of: ModelRecord) -> None:
        files = read_files(source)
        with self.ledger.write("init") as entry:
            if _is_begun(entry.before) or entry.before.first_model.model_id == card.model_id:
                return  # another process was faster; the next command says what that means
            metrics = {"name": card.name, "asked": self.spec.model}
            entry.add_model(NewModel(card.model_id, f"models/{card.model_id}", metrics=metrics, files=files))
            entry.summary = f"starts with model {card.model_id} in place of {instead_of.model_id}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _first_model(spec: CampaignSpec) -> NewModel:
    """Read the model that a campaign starts with into its ledger, so that an upgrade does not change it."""
    source = find_model(spec.model_source)
    files, name = read_files(source), read_card(source).name
    return NewModel(files.sha256[:12], "models/N01", metrics={"name": name, "asked": spec.model}, files=files)


def _is_begun(state: Snapshot) -> bool:
    """Whether anything rests on the starting model."""
    return bool(state.rounds or state.measurements)


def _not_begun(name: str, source: str | Path) -> str:
    word = shlex.quote(str(source))
    return (
        f"Campaign {name} has not begun here: there is nothing yet. `drx-screen propose --campaign {word}` begins it "
        f"in {name}/, `drx-screen init NAME --from {word}` in a folder of another name."
    )


def _folder_of(source: str | Path, *, begin: bool) -> Path:
    """Folder of a campaign, which is begun when there is none, if it may be.

    Raises:
        NotBegun: there is none and it may not.
    """
    path = find_spec(source)
    if path.name == FILE_NAME:
        return path.parent
    folder = Path.cwd() / check_name(read_spec(path).name, "A campaign")
    if (folder / FILE_NAME).is_file():
        _refuse_if_changed(path, folder)
    elif not begin:
        raise NotBegun(_not_begun(folder.name, source))
    else:
        _write_template(path, folder)
    return folder


def _write_template(path: Path, folder: Path, learn_from: Sequence[str] = ()) -> None:
    """Copy a campaign's YAML under the new name, with the files it refers to beside it."""
    check_name(folder.resolve().name, "A campaign")
    spec = read_spec(path)
    check_model(find_model(spec.model_source))
    text = path.read_text(encoding="utf-8")
    if learn_from:
        others = [*spec.learn_from, *(_beside(folder, name) for name in learn_from)]
        text = re.sub(r"^learn_from:.*\n(?:[ -].*\n)*", "", text, flags=re.MULTILINE)
        text = f"{text.rstrip()}\nlearn_from: {json.dumps(list(dict.fromkeys(others)))}\n"
    text = re.sub(r"^name:.*\n", "", text, flags=re.MULTILINE)
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(spec.space, str) and Path(spec.space).suffix:
        referred = (spec.folder or Path()) / spec.space
        replace_file(folder / referred.name, referred.read_bytes())
        text = re.sub(r"^space:.*$", f"space: {referred.name}", text, flags=re.MULTILINE)
    model = spec.model_source
    if isinstance(model, Path):
        text = re.sub(r"^model:.*$", f"model: {model.resolve()}", text, flags=re.MULTILINE)
    replace_file(folder / FILE_NAME, commented(f"name: {folder.resolve().name}\n{text}").encode())


def _beside(folder: Path, name: str) -> str:
    """How the YAML in a folder names whom it learns from.

    Raises:
        ConfigurationError: it is no campaign's folder.
    """
    if name == LITERATURE:
        return name
    if not (Path(name) / FILE_NAME).is_file():
        raise ConfigurationError(
            f"{name}: a campaign learns from {LITERATURE} or from a campaign's folder, which holds a {FILE_NAME}."
        )
    return Path(os.path.relpath(Path(name).resolve(), folder.resolve())).as_posix()


def _refuse_if_changed(path: Path, folder: Path) -> None:
    """Two YAMLs of one campaign must say the same, or one of them would be ignored in silence."""
    specs = read_spec(path), read_spec(folder)
    given, used = map(_comparable, specs)
    changed = [key for key in given if given[key] != used[key]]
    asked, folders = [s.model for s in specs], [((s.folder or Path()) / s.model).resolve() for s in specs]
    if asked[0] != asked[1] and folders[0] != folders[1]:
        changed.append("model")
    if changed:
        raise ConfigurationError(
            f"{folder / FILE_NAME} is the YAML of this campaign, and {path} differs from it in {', '.join(changed)}. "
            f"Edit the former and use --campaign {typed(folder)}, or start another campaign with `drx-screen init`."
        )


def _comparable(spec: CampaignSpec) -> dict[str, Any]:
    values = spec.resolved() | {"ledger": spec.ledger, "workers": spec.workers}
    if isinstance(values["space"], str):
        values["space"] = Path(values["space"]).name
    del values["name"], values["model"]
    return values
