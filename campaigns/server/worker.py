"""One job in a process of its own: reads an order from stdin, writes progress and result to stdout as JSON lines."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from campaigns.campaign import Campaign
from campaigns.server.desk import Done, Write
from campaigns.server.jobs import kind_of
from drxnet.errors import DRXError
from drxnet.files import new_file
from drxnet.progress import Progress

if TYPE_CHECKING:
    from campaigns.loop.propose import Proposed

_EVERY_S = 0.2


def run(order: Mapping[str, Any], tell: Callable[[dict[str, Any]], None]) -> None:
    """Carry out one order.

    Args:
        order: ``folder``, ``verb``, ``options`` of the verb and ``who`` asked.
        tell: takes ``{"progress": [done, total]}`` and, last, ``{"result": ...}`` or ``{"error", "exit_code"}``.
    """
    latest = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal latest
        if done >= total or time.monotonic() - latest > _EVERY_S:
            latest = time.monotonic()
            tell({"progress": [done, total]})

    how, read_only = Write(order["verb"], order["who"], order.get("key")), order.get("read_only") or None
    try:
        with Campaign(order["folder"], command=how.command, read_only=read_only) as campaign:
            campaign.ledger.who = how.who
            campaign.ledger.expects = how.check
            tell({"result": _answered(campaign, order, progress)})
    except DRXError as error:
        tell({"error": str(error), "exit_code": error.exit_code, "kind": kind_of(error)})
    except Exception as error:  # noqa: BLE001 - whatever it is, the page is told
        tell({"error": f"{type(error).__name__}: {error}. This is a defect of drx-screen.", "exit_code": 1})


def _answered(campaign: Campaign, order: Mapping[str, Any], progress: Progress) -> Any:
    """What a verb says; of one that was carried out before under the same key, what the ledger has of it."""
    try:
        return _VERBS[order["verb"]](campaign, dict(order["options"]), progress)
    except Done as done:
        said = {"replayed": True, "event": done.event.number, "summary": done.event.summary}
        state = campaign.state()
        found = next((r for r in state.rounds if r.event == done.event.number), None)
        if found is None:
            return said
        from campaigns.loop.propose import Proposed

        return said | _batch(Proposed(found.number, found.model_id, state.proposals_of(found.number), found.statistics))


def _propose(campaign: Campaign, options: dict[str, Any], progress: Progress) -> Any:
    from campaigns.loop.propose import propose
    from campaigns.report.round import write_round_files

    with _as_file(options.pop("candidates_csv", None)) as candidates:
        chosen = propose(campaign, **options, candidates=candidates, progress=progress)
    if not options.get("dry_run"):
        write_round_files(campaign, chosen.round)
    return _batch(chosen)


def _batch(chosen: Proposed) -> dict[str, Any]:
    from campaigns.report.views import batch

    return {**batch(chosen), "records": [asdict(p) for p in chosen.proposals]}


@contextmanager
def _as_file(text: str | None) -> Iterator[Path | None]:
    """A text as a file that goes with the job."""
    if text is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="drx-screen-") as folder:
        file = Path(folder) / "candidates.csv"
        with new_file(file) as partial:
            partial.write_text(text, encoding="utf-8")
        yield file


def _finetune(campaign: Campaign, options: dict[str, Any], progress: Progress) -> Any:
    learned = campaign.fine_tune(**options, progress=progress)
    return {**learned.as_dict(), "record": asdict(learned.model)}


def _report(campaign: Campaign, options: dict[str, Any], progress: Progress) -> Any:
    written = campaign.report(**options, progress=progress)
    return {"page": written.page.name, "figures": [figure.name for figure in written.figures]}


def _rank(campaign: Campaign, options: dict[str, Any], progress: Progress) -> Any:
    from campaigns.loop.rank import rank
    from campaigns.report.views import ranking

    return ranking(rank(campaign, **options, progress=progress))


_VERBS: Mapping[str, Callable[[Campaign, dict[str, Any], Progress], Any]] = {
    "propose": _propose,
    "finetune": _finetune,
    "report": _report,
    "rank": _rank,
}


def main() -> None:
    """Read the order, keep stdout for the answer alone, and carry it out."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    order = json.load(sys.stdin)

    def tell(said: dict[str, Any]) -> None:
        out.write(json.dumps(said, allow_nan=False, default=str) + "\n")
        out.flush()

    run(order, tell)


if __name__ == "__main__":
    main()
