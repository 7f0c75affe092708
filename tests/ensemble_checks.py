"""What is asked of the ensemble that ships and of the published one alike."""

from __future__ import annotations

import numpy as np
import torch

from drxnet.ensemble import Amounts, Ensemble
from screening.domain import LABELS, Domain
from screening.goals import Goals

METALS = ("Mg", "Ti", "V", "Cr", "Mn", "Fe", "Ni", "Nb")


def error_by_label(ensemble: Ensemble) -> dict[str, float]:
    """Label of the domain -> mean error of a member against the others (mAh/g at 20 mA/g) of 200 drawn compositions."""
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(len(METALS), 0.6), 200) * rng.uniform(0.7, 0.9, (200, 1))
    cations = torch.from_numpy(np.c_[2 - shares.sum(1), shares])
    amounts = Amounts(("Li", *METALS), cations, torch.from_numpy(rng.uniform(0, 0.3, 200)))
    labels = np.array(Domain(ensemble).nearest(amounts).labels)
    q = Goals().evaluate(ensemble, amounts)[..., 1].numpy()
    errors = np.mean([abs(q[i] - np.delete(q, i, 0).mean(0)) for i in range(len(q))], 0)
    return {label: float(errors[labels == label].mean()) for label in LABELS if label in labels}
