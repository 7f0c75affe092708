"""Which syntheses gave the phase, by what a laboratory said of them: what the probability of the phase is learned from.

What was measured formed, unless its phases say otherwise. A failure counts against a composition unless its reason
speaks of the cycler, the cell or the balance; an abandoned proposal only where its reason speaks of the synthesis.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from campaigns.ledger.records import PhaseOutcome, Proposal, Snapshot, State
from drxnet.composition import Composition
from screening.synthesis import Tried, reported

_OF_THE_SYNTHESIS = re.compile(
    r"phase|impurit|unreacted|\bleft\b|residu|secondary|decompos|\bmelt|segregat|demix|separat(ed|ion)|amorphous"
    r"|volatil|spinel|layered|did not form|not (formed|form)\b|\bxrd\b|synthes|sinter|Li\d*[A-Z][a-z]?\d*O\d",
    re.IGNORECASE,
)
_ACCIDENT = re.compile(
    r"cycler|channel|potentiostat|power|outage|short|crimp|leak|separator|electrolyte|electrode|coating|slurry|spill"
    r"|spilt|dropped|broke|lost|mislabel|balance|weighed|glove ?box|out of|ran out|no time|mix(ed)?[- ]up|coin cell"
    r"|cell died",
    re.IGNORECASE,
)
_WANTED = re.compile(r"rock ?salt|\bdrx\b|fm-?3m|halite", re.IGNORECASE)


def tried_of(state: Snapshot) -> tuple[Tried, ...]:
    """Syntheses that are reported, then those of the campaign that say something of the phase."""
    return (*reported(), *filter(None, (_tried(p, state.phases) for p in state.proposals)))


def speaks_of_synthesis(reason: str, unclear: bool) -> bool:
    """Whether a reason blames the synthesis.

    Args:
        reason: as it was told.
        unclear: what to think of one that names neither the synthesis nor an accident.
    """
    if _OF_THE_SYNTHESIS.search(reason):
        return True
    return unclear and not _ACCIDENT.search(reason)


def _tried(proposal: Proposal, phases: Mapping[str, PhaseOutcome]) -> Tried | None:
    composition = Composition.parse(proposal.composition)
    if proposal.proposal_id in phases:
        formed = share_formed(phases[proposal.proposal_id])
        if formed is not None:
            return Tried(composition, formed, str(phases[proposal.proposal_id]), process=proposal.process)
    if proposal.state is State.MEASURED:
        return Tried(composition, 1.0, process=proposal.process)
    if proposal.state in (State.FAILED, State.ABANDONED) and speaks_of_synthesis(
        proposal.reason, unclear=proposal.state is State.FAILED
    ):
        return Tried(composition, 0.0, proposal.reason, process=proposal.process)
    return None


def share_formed(found: PhaseOutcome) -> float | None:
    """Share of the phase that was wanted, from 0 to 1; None where nothing is told of it."""
    wanted = {name: share for name, share in found.phases.items() if _WANTED.search(name)}
    told = [share for share in wanted.values() if share is not None]
    if told:
        return min(sum(told) / 100, 1.0)
    if found.phases and not wanted:
        return 0.0
    if found.single_phase:
        return 1.0
    if wanted:
        return 1.0 if len(wanted) == len(found.phases) and found.single_phase is None else 0.5
    return None if found.single_phase is None else 0.0
