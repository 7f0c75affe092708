"""What is about to be recorded: judged beside what stands, and added to the ledger with what is thought of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from campaigns.intake.judgement import expectations, judge, weighed, weighed_standing
from campaigns.intake.settlement import Item, Placed
from campaigns.ledger.entry import Entry
from campaigns.ledger.records import CLEARED, DOUBTFUL, Snapshot
from campaigns.workspace import Workspace


class Addition:
    """Discharges that are added to a ledger together."""

    def __init__(
        self, campaign: Workspace, state: Snapshot, placed: Sequence[Placed] = (), gone: Collection[str] = ()
    ) -> None:
        """Judge them beside what stands.

        Args:
            campaign: whose rates count.
            state: of its ledger before.
            placed: what is added; nothing where measurements only go.
            gone: ids of measurements that stand no longer.
        """
        new = [
            weighed(state, id(p), p.item.owner, p.cell, p.item.new, current_stated=p.item.current_stated, fresh=True)
            for p in placed
        ]
        rates = campaign.spec.conditions
        self.verdicts = judge([*weighed_standing(state, set(gone)), *new], rates, expectations(state, rates))
        """What is thought of them, by the ids of these objects, and of what was recorded before, by its name."""

        self._lab: dict[str, str] = {}

    def add(self, entry: Entry, placed: Placed, sha256: str | None = None, doubt: tuple[str, str] | None = None) -> str:
        """Record a discharge with what is thought of it, and give back its id.

        Args:
            entry: to record it in.
            placed: the discharge.
            sha256: of the file that it comes from.
            doubt: rule and reason that go before what is thought of it.
        """
        item, new = placed.item, placed.item.new
        if item.proposal_id is None and item.owner not in self._lab:
            self._lab[item.owner] = entry.add_lab_composition(new.composition)
        if id(placed) in self.verdicts.surprises:
            new = replace(new, flags=(*new.flags, "W8"))
        doubt = doubt or self.verdicts.doubts.get(id(placed))
        return entry.add_measurement(self.proposal_of(item), placed.cell, new, sha256, doubt=doubt)

    def proposal_of(self, item: Item) -> str:
        """Proposal that a discharge was recorded for, one that the lab made unasked too."""
        return self._lab.get(item.owner, item.owner)

    def judge_again(self, entry: Entry) -> None:
        """Record what is thought now of measurements that were there before."""
        for name, verdict, rule, reason in self._of_others():
            entry.judge(name, verdict, rule, reason)

    @property
    def judged_again(self) -> tuple[str, ...]:
        """One sentence for every measurement, recorded before, that is doubtful now or no longer."""
        return tuple(
            f"{name}, recorded before, is {f'doubtful now ({rule})' if rule else 'no longer doubtful'}: {reason}"
            for name, _, rule, reason in self._of_others()
        )

    def _of_others(self) -> Iterator[tuple[str, str, str, str]]:
        """Yield name, verdict, rule and reason of what was recorded before and is thought of in another way now."""
        for key, (rule, reason) in self.verdicts.doubts.items():
            if isinstance(key, str):
                yield key, DOUBTFUL, rule, reason
        for key, reason in self.verdicts.cleared.items():
            if isinstance(key, str):
                yield key, CLEARED, "", reason
