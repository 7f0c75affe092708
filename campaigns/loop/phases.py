"""What was found in what was made: phases, and the composition as measured."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from campaigns.ledger.records import PhaseOutcome
from drxnet.composition import Composition
from drxnet.errors import CompositionError, ConfigurationError, UsageError
from drxnet.names import hint
from drxnet.text import table_rows, table_text

MOST_PERCENT = 100.5
"""Shares of phases may add up to this: they are rounded (%)."""

_PHASE = re.compile(r"(?P<name>.+?)\s*(?:[:=\s]\s*(?P<share>\d+(?:[.]\d+)?)\s*%?)?")
_YES_NO = {"yes": True, "y": True, "true": True, "1": True, "no": False, "n": False, "false": False, "0": False}
_COLUMNS = {
    "proposal": "proposal",
    "proposalid": "proposal",
    "state": "state",
    "reason": "reason",
    "phases": "phases",
    "singlephase": "single_phase",
    "icp": "icp",
    "measuredcomposition": "icp",
}


@dataclass(frozen=True)
class Found:
    """What the laboratory found in what it made of one proposal."""

    proposal: str
    state: str | None = None
    reason: str = ""
    phases: Mapping[str, float | None] | None = None
    single_phase: bool | None = None
    icp: str | None = None
    """Canonical formula."""


def parse_phases(text: str) -> dict[str, float | None]:
    """Phases with their shares (%), None where only the presence is told; of such as ``rocksalt 80, Li3NbO4 20``.

    Raises:
        UsageError: a phase is named twice, a share is none, or they add up to more than all.
    """
    found: dict[str, float | None] = {}
    for part in filter(None, (p.strip() for p in re.split(r"[,;]", text))):
        name, share = _phase(part)
        if name in found:
            raise UsageError(f"Name each phase once. {name} is named twice in {text!r}.")
        found[name] = share
    total = sum(share or 0.0 for share in found.values())
    if not found:
        raise UsageError(f"Name at least one phase, such as `rocksalt 80, Li3NbO4 20`. Got {text!r}.")
    if total > MOST_PERCENT:
        raise UsageError(f"The shares of phases add up to at most 100 %. Got {total:g} in {text!r}.")
    return found


def _phase(part: str) -> tuple[str, float | None]:
    """Name and share (%) of one phase."""
    match = _PHASE.fullmatch(part)
    name = match["name"].strip() if match else ""
    if match is None or not name or re.fullmatch(r"[\d.%\s-]+", name):
        raise UsageError(f"A phase reads like `rocksalt 80`. Got {part!r}.")
    share = float(match["share"]) if match["share"] else None
    if share is not None and not 0 < share <= MOST_PERCENT:
        raise UsageError(f"The share of a phase lies between 0 and 100 %. Got {share:g} for {name}.")
    return name, share


def parse_yes_no(text: str) -> bool:
    """Whether a text says yes.

    Raises:
        UsageError: it says neither.
    """
    if text.strip().lower() not in _YES_NO:
        raise UsageError(f"Say yes or no. Got {text!r}.")
    return _YES_NO[text.strip().lower()]


def parse_icp(text: str) -> str:
    """Canonical formula of a composition as measured.

    Raises:
        UsageError: no composition of the kind that the campaign makes.
    """
    try:
        return Composition.parse(text).formula
    except CompositionError as error:
        raise UsageError(f"The composition as measured: {error}") from None


def read_findings(path: Path) -> tuple[Found, ...]:
    """Read a table of what was found: ``proposal``, and of ``state, reason, phases, single_phase, icp`` what is known.

    Raises:
        ConfigurationError: an unknown column, a row without a proposal, or a value that cannot be read.
    """
    (_, header), *rows = list(table_rows(table_text(path))) or [(1, [])]
    meanings = _meanings(path.name, header)
    found = []
    for number, cells in rows:
        values = {m: c.strip() for m, c in zip(meanings, cells, strict=False) if m and c.strip()}
        if not values:
            continue
        try:
            found.append(_found(values))
        except UsageError as error:
            raise ConfigurationError(f"{path.name}, row {number}: {error}") from None
    if not found:
        raise ConfigurationError(f"{path.name}: no rows below the header.")
    return tuple(found)


def _meanings(name: str, header: Sequence[str]) -> list[str | None]:
    """What each column holds; None for one without a name."""
    meanings = [_COLUMNS.get(re.sub(r"[^a-z]", "", cell.lower())) for cell in header]
    unknown = [cell for cell, meaning in zip(header, meanings, strict=True) if meaning is None and cell.strip()]
    if unknown or "proposal" not in meanings:
        known = "proposal, state, reason, phases, single_phase, icp"
        what = f"unknown column {', '.join(unknown)}" if unknown else "no column 'proposal'"
        meant = hint(unknown[0], known.split(", ")) if unknown else ""
        raise ConfigurationError(f"{name}: {what}. {meant}Known: {known}.")
    return meanings


def _found(values: Mapping[str, str]) -> Found:
    if "proposal" not in values:
        raise UsageError("names no proposal.")
    return Found(
        values["proposal"],
        values.get("state"),
        values.get("reason", ""),
        parse_phases(values["phases"]) if "phases" in values else None,
        parse_yes_no(values["single_phase"]) if "single_phase" in values else None,
        parse_icp(values["icp"]) if "icp" in values else None,
    )


def said(found: Sequence[Found]) -> str:
    """One sentence for the event log: proposals of which the same is said stand together."""
    together: dict[str, list[str]] = {}
    for f in found:
        words = [f.state or "", f.reason]
        if f.phases or f.single_phase is not None:
            words.append(str(PhaseOutcome(f.proposal, f.phases or {}, f.single_phase, 0)))
        if f.icp:
            words.append(f"measured {f.icp}")
        together.setdefault(", ".join(filter(None, words)), []).append(f.proposal.upper())
    return "; ".join(f"{', '.join(names)}: {words}" for words, names in together.items())
