"""Look whether a campaign is as it was written, and say what is not."""

from __future__ import annotations

from pathlib import Path

from campaigns.errors import LedgerError
from campaigns.ledger.chain import Finding
from campaigns.ledger.ledger import Ledger
from campaigns.spec import find_spec, read_spec
from drxnet.checkpoint import check_model
from drxnet.errors import CheckpointError, DRXError, UsageError


def verify_campaign(source: str | Path, *, accept: str | None = None, command: str = "python") -> tuple[Finding, ...]:
    """Look at the YAML, the ledger, its chain of events, profiles, weights and the folder of models.

    Args:
        source: a campaign's folder.
        accept: why the rows shall be taken as they are, where they were changed behind the ledger's back.
        command: what the event log says was run.

    Raises:
        ConfigurationError: there is no such campaign.
        UsageError: there is nothing to accept.
    """
    path = find_spec(source)
    folder = path.parent
    spec = read_spec(folder)
    try:
        with_rights = Ledger(spec.ledger_url(folder), spec.name, command=command, read_only=accept is None)
    except LedgerError as error:
        return (Finding("ledger", False, str(error)),)
    try:
        if accept is not None:
            if not accept.strip():
                raise UsageError("Say why the changed rows shall be taken: --accept REASON.")
            with_rights.accept(accept)
        return (*with_rights.findings(), *_of_folder(with_rights, folder))
    finally:
        with_rights.close()


def _of_folder(ledger: Ledger, folder: Path) -> list[Finding]:
    try:
        state = ledger.read()
    except DRXError as error:
        return [Finding("reading", False, str(error))]
    found = []
    for model in state.models:
        place = folder / model.path
        if not model.path or not place.is_dir():
            continue
        try:
            card = check_model(place)
        except CheckpointError as error:
            found.append(Finding("folder of models", False, f"{error} The next command fills it again.", model.event))
            continue
        if card.model_id != model.model_id:
            said = f"{place}: holds model {card.model_id}, not {model.model_id}; the next command fills it again"
            found.append(Finding("folder of models", False, said, model.event))
    return found or [Finding("folder of models", True, "what is there is what the ledger names")]
