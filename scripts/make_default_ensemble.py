"""Make the ensemble that ships, ``drxnet/pretrained/default``: simulate, train, test.

The published ensemble stands for the laboratory; member m of the new one learns, from random initialisation, what
member m of the published one predicts, so that their spread means the same. No published weight is copied. Run it
again with the same arguments to go on after an interruption.

    python scripts/make_default_ensemble.py --work build/default

The one that ships was trained in two processes, which give other random numbers than a single one:

    python scripts/make_default_ensemble.py --work build/default --members 0 1 2 &
    python scripts/make_default_ensemble.py --work build/default --members 3 4; wait
    python scripts/make_default_ensemble.py --work build/default
"""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from drxnet import checkpoint
from drxnet.composition import MODEL_METALS, Composition
from drxnet.dataset import ProfileSet
from drxnet.discharge import CyclingConditions
from drxnet.ensemble import Ensemble
from drxnet.network import DRXNet
from drxnet.simulation import DRX_FAMILIES, MOST_SPREAD_MAH_G, ConditionMix, draw_domain, simulate
from drxnet.training import TrainingOptions, load_options, pretrain

HIGH_ENTROPY = ("Li1.2Mn0.1Mg0.1Cr0.3Ti0.2Nb0.1O1.8F0.2", "Li1.2Mn0.1Mg0.1Cr0.15V0.15Ti0.2Nb0.1O1.8F0.2")
"""HE-1 and HE-2 of Zhong et al., Joule 8 (2024), figure 5: kept out of the training set, with their neighbours."""

NEIGHBOURHOOD = 0.05
"""Largest difference of any amount to a composition that counts as its neighbour."""


def make_profiles(source: Ensemble, count: int, per_composition: float, seed: int) -> ProfileSet:
    """Simulate the training set."""
    rng = np.random.default_rng(seed)
    left_out = [Composition.parse(formula) for formula in HIGH_ENTROPY]

    def near(composition: Composition) -> bool:
        return any(composition.distance(other) <= NEIGHBOURHOOD for other in left_out)

    compositions = draw_domain(source, round(count / per_composition), rng, forbidden=near)
    which = np.concatenate([np.arange(len(compositions)), rng.integers(len(compositions), size=count)])[:count]
    conditions = ConditionMix().draw(count, rng)
    return simulate(source, [compositions[i] for i in which], conditions, seed=seed, per_member=True)


def compare(model: Ensemble, source: Ensemble, compositions: list[Composition]) -> dict[str, float]:
    """Errors of the model against the source at the lower cut-off, first cycle, 1.5-4.8 V (mAh/g)."""
    rates = [CyclingConditions(20), CyclingConditions(1000), CyclingConditions(20, cycle=30)]
    truth, mine = (e.capacity(compositions, rates).numpy() for e in (source, model))
    known = truth.std(0) < 20
    wrong = np.abs(mine.mean(0) - truth.mean(0))
    facts = {
        f"mae_mah_g_{label}": float(wrong[known[:, i], i].mean())
        for i, label in enumerate(("20", "1000", "20_cycle_30"))
    }
    inside, outside = truth.std(0)[:, 0] < 15, truth.std(0)[:, 0] > 40
    spread = mine.std(0)[:, 0]
    facts["median_spread_inside_mah_g"] = float(np.median(spread[inside]))
    facts["median_spread_outside_mah_g"] = float(np.median(spread[outside]))
    facts["members_mae_mah_g_20"] = float(np.abs(mine - truth)[:, known[:, 0], 0].mean())
    fluorides = [Composition.parse(formula) for formula in ("Li1.25Mn0.75O2", "Li1.25Mn0.75O1.7F0.3")]
    lmof = model.capacity(fluorides, rates).numpy().mean(0)
    facts["fluorination_changes_cycle_1"] = float(lmof[1, 0] - lmof[0, 0])
    facts["fluorination_changes_cycle_30"] = float(lmof[1, 2] - lmof[0, 2])
    for name, formula in zip(("HE-1", "HE-2"), HIGH_ENTROPY, strict=True):
        a, b = (e.capacity([formula], rates[:2]).numpy().mean(0)[0] for e in (model, source))
        facts |= {f"{name}_{rate}": float(x) for rate, x in zip((20, 1000), a, strict=True)}
        facts |= {f"{name}_{rate}_published": float(x) for rate, x in zip((20, 1000), b, strict=True)}
    return {k: round(v, 2) for k, v in facts.items()}


def train_members(profiles: ProfileSet, options: TrainingOptions, members: list[int], seed: int, work: Path) -> None:
    """Train some of the members in a process of their own, with a seed of their own."""
    names = ("capacity_mah_g", "dqdv_mah_g_v", "first_capacity_mah_g")
    part = replace(profiles, **{name: getattr(profiles, name)[members] for name in names})
    folder = work / f"members-{'-'.join(map(str, members))}"
    options = replace(options, members=len(members))
    model = pretrain(part, options, seed=seed + members[0], folder=folder, resume=True)
    checkpoint.save(folder / "model", model.network.state_dict(), model.card, replace=True)


def join(parts: list[Ensemble]) -> Ensemble:
    """Put the members of several ensembles side by side."""
    members = sum(part.members for part in parts)
    network = DRXNet(replace(parts[0].network.shape, members=members))
    states = [part.network.state_dict() for part in parts]
    network.load_state_dict({name: torch.cat([state[name] for state in states]) for name in states[0]})
    return Ensemble(network, replace(parts[0].card, members=members))


def test_compositions(source: Ensemble, train: ProfileSet, seed: int) -> list[Composition]:
    """Draw compositions of every family, also where the members disagree, none of them trained on."""
    rng = np.random.default_rng(seed)
    drawn = [c for _, family in DRX_FAMILIES.values() for c in family.draw(min(150, family.most), rng)]
    trained = set(train.compositions)
    return [c for c in dict.fromkeys(drawn) if c not in trained]


def main() -> None:
    """Simulate (or read what was simulated), train (or go on), compare, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default=checkpoint.PUBLISHED_NAME, help="ensemble that stands for the laboratory")
    parser.add_argument("--work", type=Path, required=True, help="folder of the training set and the checkpoints")
    parser.add_argument("--out", type=Path, default=checkpoint.shipped_home() / checkpoint.DEFAULT_MODEL)
    parser.add_argument("--options", default="default", help="training options, a name or a YAML file")
    parser.add_argument("--profiles", type=int, default=19_000)
    parser.add_argument("--per-composition", type=float, default=3.0, help="mean number of profiles of a composition")
    parser.add_argument(
        "--members", type=int, nargs="+", help="train only these, to share the work among processes; then run without"
    )
    parser.add_argument("--seed", type=int, default=2024)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    source = Ensemble.load(arguments.source)
    arguments.work.mkdir(parents=True, exist_ok=True)
    stored = arguments.work / f"profiles-{arguments.profiles}-{arguments.seed}.npz"
    if not stored.exists():
        partial = stored.with_suffix(".partial.npz")
        make_profiles(source, arguments.profiles, arguments.per_composition, arguments.seed).save(partial)
        partial.rename(stored)
    profiles = ProfileSet.load(stored)
    options = load_options(arguments.options)
    if arguments.members:
        train_members(profiles, options, arguments.members, arguments.seed, arguments.work)
        return
    parts = [Ensemble.load(folder) for folder in sorted(arguments.work.glob("members-*/model"))]
    model = (
        join(parts) if parts else pretrain(profiles, options, seed=arguments.seed, folder=arguments.work, resume=True)
    )
    facts = compare(model, source, test_compositions(source, profiles, arguments.seed + 1))
    logging.info("%s", facts)
    card = replace(
        model.card,
        name=checkpoint.DEFAULT_MODEL,
        elements=MODEL_METALS,
        provenance={
            **model.card.provenance,
            "made": "trained from random initialisation by scripts/make_default_ensemble.py; member m learned from "
            f"profiles simulated with member m of {arguments.source}, no weight of which was copied",
            "options": asdict(options),
            "processes": [part.card.provenance["final_losses"] | {"members": part.members} for part in parts],
            "simulated_from": {"name": source.card.name, "weights_sha256": source.card.weights_sha256},
            "left_out": f"HE-1 and HE-2 of the paper and everything within {NEIGHBOURHOOD} of them",
            "domain": f"charge-balanced compositions of the 14 metals on which the published members differ by less "
            f"than {MOST_SPREAD_MAH_G:g} mAh/g at 20 mA/g, cycle 1; 10-10000 mA/g; cycles 1-100",
            "errors_against_published": facts,
            "differs_from_published": "predicts what the published one predicts, within the errors above, where that "
            "is sure of itself; outside the domain both are guesses, and different ones",
            "licence": "MIT",
            "citation": checkpoint.CITATION,
        },
    )
    checkpoint.save(arguments.out, model.network.state_dict(), card, replace=True)


if __name__ == "__main__":
    main()
