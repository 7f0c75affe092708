"""How much of the best of a walked space a search finds: best-first beside the walk of a campaign's round.

    drx-screen propose --campaign he-wide --method walk --strategy logei       (an hour and a half of two cores)
    python -m benchmarks.enumerate.walked he-wide [--round 1] [--evaluations 200000] [--seeds 0 1 2]

The best of the walk are read from its proof; the search scores with what the walk scored with.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from campaigns.loop.forecast import one_thread
from campaigns.loop.propose import proof_path
from campaigns.loop.walk import job_of
from campaigns.workspace import Workspace
from screening.lattice import Lattice
from screening.proof import WalkProof
from screening.search import search

TOPS = (10, 100, 1000)


def main() -> None:
    """Search with each seed, and print recall."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaign", type=Path)
    parser.add_argument("--round", type=int, default=1)
    parser.add_argument("--evaluations", type=int, default=200_000)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    options = parser.parse_args()
    with Workspace.open(options.campaign, read_only=True) as campaign:
        one = next(r for r in campaign.state().rounds if r.number == options.round)
        proof, _ = WalkProof.read(proof_path(campaign, one.number))
        job = job_of(campaign, one, int(proof.job["batch"]))
    assert isinstance(job.candidates, Lattice), "a space that can be searched"
    best = [rank for rank, _ in proof.best]
    scored = f"{proof.scored:,} scored by the walk; {options.evaluations:,} by a search"
    print(f"{job.candidates.count:,} compositions, {scored}")
    print("\n| seed | " + " | ".join(f"of the best {n:,}" for n in TOPS) + " | rank of the best found | seconds |")
    print("|---" * (3 + len(TOPS)) + "|")
    for seed in options.seeds:
        begun = time.monotonic()
        with one_thread():
            found = search(job.candidates, job.scorer, evaluations=options.evaluations, keep=max(TOPS), seed=seed)
        mine = set(found.ranks.tolist())
        shares = [f"{len(mine.intersection(best[:n])) / n:.0%}" for n in TOPS]
        first = f"{best.index(found.ranks[0]) + 1:,}" if found.ranks[0] in best else f"> {len(best):,}"
        print(f"| {seed} | " + " | ".join(shares) + f" | {first} | {time.monotonic() - begun:.0f} |", flush=True)


if __name__ == "__main__":
    main()
