"""Make the ensemble that ships, ``drxnet/pretrained/default``: simulate, train, test.

The published ensemble stands for the laboratory; member m of the new one learns, from random initialisation, what
member m of the published one predicts, so that their spread means the same. No published weight is copied. Run it
again with the same arguments to go on after an interruption.

    python scripts/make_default_ensemble.py --work build/default
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from drxnet import checkpoint
from drxnet.composition import MODEL_METALS, Composition
from drxnet.dataset import ProfileSet
from drxnet.discharge import CyclingConditions
from drxnet.ensemble import Ensemble
from drxnet.simulation import ChemicalFamily, ConditionMix, simulate
from drxnet.training import load_options, pretrain

HIGH_ENTROPY = ("Li1.2Mn0.1Mg0.1Cr0.3Ti0.2Nb0.1O1.8F0.2", "Li1.2Mn0.1Mg0.1Cr0.15V0.15Ti0.2Nb0.1O1.8F0.2")
"""HE-1 and HE-2 of Zhong et al., Joule 8 (2024), figure 5: kept out of the training set, with their neighbours."""

NEIGHBOURHOOD = 0.05
"""Largest difference of any amount to a composition that counts as its neighbour."""

MOST_SPREAD_MAH_G = 25.0
"""Compositions on which the published members differ by more at 20 mA/g are not simulated."""

OXYFLUORIDE = (0.0, 0.6)
FAMILIES: dict[str, tuple[float, ChemicalFamily]] = {
    "Li-Mn-O-F": (6, ChemicalFamily(("Mn",), (1, 1), lithium=(1.0, 1.4), fluorine=(0, 0.75))),
    "Mn-Ti": (7, ChemicalFamily(("Mn", "Ti"), (2, 2), ("Mn", "Ti"), fluorine=OXYFLUORIDE)),
    "Mn-Nb": (7, ChemicalFamily(("Mn", "Nb"), (2, 2), ("Mn", "Nb"), fluorine=OXYFLUORIDE)),
    "Mn-V": (5, ChemicalFamily(("Mn", "V"), (2, 2), ("Mn", "V"), fluorine=OXYFLUORIDE)),
    "Cr-Mn-Ti": (10, ChemicalFamily(("Cr", "Mn", "Ti"), (2, 3), ("Cr",), fluorine=OXYFLUORIDE)),
    "Ni": (7, ChemicalFamily(("Ni", "Ti", "Mo", "Nb", "Mn", "Co", "W", "Zr"), (2, 3), ("Ni",), fluorine=OXYFLUORIDE)),
    "Fe": (6, ChemicalFamily(("Fe", "Ti", "Nb", "Mn", "W", "Mo", "Al"), (2, 3), ("Fe",), fluorine=OXYFLUORIDE)),
    "Mg-substituted": (
        8,
        ChemicalFamily(("Mg", "Mn", "Ti", "Nb", "Cr", "V", "Al"), (2, 4), ("Mg", "Mn"), fluorine=OXYFLUORIDE),
    ),
    "d0 mixtures": (
        6,
        ChemicalFamily(("Mn", "V", "Cr", "Ti", "Nb", "Zr", "Mo", "W", "Al"), (2, 3), ("Mn",), fluorine=OXYFLUORIDE),
    ),
    "HE of Mn, Cr, V, Ti, Nb, Mg": (
        20,
        ChemicalFamily(("Mg", "Ti", "V", "Cr", "Mn", "Nb"), (4, 6), ("Ti",), fluorine=OXYFLUORIDE, evenness=3),
    ),
    "HE of all": (20, ChemicalFamily(MODEL_METALS[1:], (3, 7), fluorine=OXYFLUORIDE, evenness=3)),
}
"""Weight and definition of each family: those of DRX-TD, the high-entropy ones more often than there."""


def draw_compositions(source: Ensemble, count: int, rng: np.random.Generator, apart: float) -> list[Composition]:
    """Draw compositions of the families on which the members of the source agree."""
    forbidden = [Composition.parse(formula) for formula in HIGH_ENTROPY]
    total = sum(weight for weight, _ in FAMILIES.values())
    chosen: dict[Composition, None] = {}
    for name, (weight, family) in FAMILIES.items():
        wanted, found, drawn = round(count * weight / total), 0, 0
        while found < wanted and drawn < 40 * count:
            some = family.draw(400 if len(family.metals) > 1 else 100, rng)
            drawn += len(some)
            spread = source.capacity(some, [CyclingConditions(20)]).numpy().std(0)[:, 0]
            for composition, sigma in zip(some, spread, strict=True):
                near = any(composition.distance(other) <= apart for other in forbidden)
                if sigma < MOST_SPREAD_MAH_G and not near and composition not in chosen and found < wanted:
                    chosen[composition] = None
                    found += 1
        logging.info("%-28s %5d of %6d drawn", name, found, drawn)
    return [list(chosen)[i] for i in rng.permutation(len(chosen))]


def make_profiles(source: Ensemble, count: int, per_composition: float, seed: int) -> ProfileSet:
    """Simulate the training set."""
    rng = np.random.default_rng(seed)
    compositions = draw_compositions(source, round(count / per_composition), rng, NEIGHBOURHOOD)
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
    for name, formula in zip(("HE-1", "HE-2"), HIGH_ENTROPY, strict=True):
        a, b = (e.capacity([formula], rates[:2]).numpy().mean(0)[0] for e in (model, source))
        facts |= {f"{name}_{rate}": float(x) for rate, x in zip((20, 1000), a, strict=True)}
        facts |= {f"{name}_{rate}_published": float(x) for rate, x in zip((20, 1000), b, strict=True)}
    return {k: round(v, 2) for k, v in facts.items()}


def test_compositions(source: Ensemble, train: ProfileSet, seed: int) -> list[Composition]:
    """Draw compositions of every family, also where the members disagree, none of them trained on."""
    rng = np.random.default_rng(seed)
    drawn = [c for _, family in FAMILIES.values() for c in family.draw(150 if len(family.metals) > 1 else 60, rng)]
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
    parser.add_argument("--seed", type=int, default=2024)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    source = Ensemble.load(arguments.source)
    arguments.work.mkdir(parents=True, exist_ok=True)
    stored = arguments.work / "profiles.npz"
    if not stored.exists():
        partial = stored.with_suffix(".part.npz")
        make_profiles(source, arguments.profiles, arguments.per_composition, arguments.seed).save(partial)
        partial.rename(stored)
    profiles = ProfileSet.load(stored)
    options = load_options(arguments.options)
    started = time.monotonic()
    model = pretrain(
        profiles, options, seed=arguments.seed, name=checkpoint.DEFAULT_MODEL, folder=arguments.work, resume=True
    )
    facts = compare(model, source, test_compositions(source, profiles, arguments.seed + 1))
    logging.info("%s", facts)
    card = replace(
        model.card,
        elements=MODEL_METALS,
        provenance={
            **model.card.provenance,
            "made": "trained from random initialisation by scripts/make_default_ensemble.py; member m learned from "
            f"profiles simulated with member m of {arguments.source}, no weight of which was copied",
            "simulated_from": {"name": source.card.name, "weights_sha256": source.card.weights_sha256},
            "left_out": f"HE-1 and HE-2 of the paper and everything within {NEIGHBOURHOOD} of them",
            "domain": f"charge-balanced compositions of the 14 metals on which the published members differ by less "
            f"than {MOST_SPREAD_MAH_G:g} mAh/g at 20 mA/g, cycle 1; 10-10000 mA/g; cycles 1-100",
            "errors_against_published": facts,
            "training_minutes": round((time.monotonic() - started) / 60, 1),
            "licence": "MIT",
            "citation": checkpoint.CITATION,
        },
    )
    checkpoint.save(arguments.out, model.network.state_dict(), card)


if __name__ == "__main__":
    main()
