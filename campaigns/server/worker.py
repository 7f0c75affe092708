"""One job in a process of its own: reads an order from stdin, writes progress and result to stdout as JSON lines."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from campaigns.campaign import Campaign
from drxnet.errors import DRXError

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

    try:
        command, read_only = f"serve {order['verb']}", order.get("read_only") or None
        with Campaign(order["folder"], command=command, read_only=read_only) as campaign:
            campaign.ledger.who = order["who"]
            tell({"result": _VERBS[order["verb"]](campaign, dict(order["options"]), progress)})
    except DRXError as error:
        tell({"error": str(error), "exit_code": error.exit_code})
    except Exception as error:  # noqa: BLE001 - whatever it is, the page is told
        tell({"error": f"{type(error).__name__}: {error}. This is a defect of drx-screen.", "exit_code": 1})


def _propose(campaign: Campaign, options: dict[str, Any], progress: Callable[[int, int], None]) -> Any:
    from campaigns.loop.propose import propose
    from campaigns.report.round import write_round_files
    from campaigns.report.views import batch

    chosen = propose(campaign, **options, progress=progress)
    if not options.get("dry_run"):
        write_round_files(campaign, chosen.round)
    return batch(chosen)


def _finetune(campaign: Campaign, options: dict[str, Any], progress: Callable[[int, int], None]) -> Any:
    return campaign.fine_tune(**options, progress=progress).as_dict()


def _report(campaign: Campaign, options: dict[str, Any], progress: Callable[[int, int], None]) -> Any:
    return {"page": campaign.report(**options, progress=progress).page.name}


def _rank(campaign: Campaign, options: dict[str, Any], progress: Callable[[int, int], None]) -> Any:
    from campaigns.loop.rank import rank
    from campaigns.report.views import ranking

    return ranking(rank(campaign, **options, progress=progress))


_VERBS: Mapping[str, Callable[[Campaign, dict[str, Any], Callable[[int, int], None]], Any]] = {
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
