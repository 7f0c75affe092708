# %% [markdown]
# # The ensemble in your own BoTorch loop
#
# A campaign is not the only way to use the model. Here BoTorch chooses, and the quantity is one that the package does
# not know: the capacity that a cell delivers above 3 V.

# %%
import numpy as np
import torch
from botorch.acquisition.logei import qLogNoisyExpectedImprovement
from botorch.acquisition.objective import GenericMCObjective
from botorch.optim import optimize_acqf_discrete
from matplotlib import pyplot as plt

from drxnet import Ensemble
from screening import DRXNetEnsembleModel, DRXNetGaussianModel
from screening.encoding import Encoding
from screening.estimates import Estimate
from screening.goals import Goals, Rates
from screening.lattice import Lattice
from screening.quantities import OneDischarge
from screening.space import load_space

torch.manual_seed(0)
ensemble = Ensemble.load("default")

# %% [markdown]
# ## A quantity of your own
#
# One class: how it is read off predicted profiles, and how off measured cells. In a package with an entry point,
# campaigns can name it in their YAML, too.


# %%
class CapacityAbove3V(OneDischarge):
    """Capacity delivered before the voltage falls to 3 V (mAh/g)."""

    name, column, unit, needs_profile = (
        "capacity-above-3v",
        "capacity_above_3v_mah_g",
        "mAh/g",
        True,
    )

    def of_members(self, profiles):
        voltages, capacity = profiles.profile(self.at)  # members x n x voltages
        return capacity[..., int(np.searchsorted(voltages, 3.0))]

    def of_cells(self, cells):
        measured = [d.profile for d in cells.under(self.at) if d.profile is not None]
        return Estimate.over(
            [p.capacity_in_window(3.0, self.at.v_high) for p in measured]
        )


above = CapacityAbove3V.of(Rates())
goals = Goals(also=(above,))
column = goals.quantities.index(above)
print(", ".join(str(q) for q in goals.quantities))

# %% [markdown]
# ## Candidates as rows of X
#
# `Lattice` counts and samples a space; `Encoding` turns compositions into rows and back.

# %%
lattice = Lattice(load_space("tiny"))
compositions = lattice.compositions(lattice.sample(150, seed=1))
encoding = Encoding.of(compositions)
X = encoding.encode(compositions)
print(
    f"{len(lattice):,} compositions in the space; {tuple(X.shape)} rows of {encoding.columns}"
)

# %% [markdown]
# ## The members as functions
#
# `DRXNetEnsembleModel` is a BoTorch `EnsembleModel`: each member is one function, the posterior is their spread.

# %%
members = DRXNetEnsembleModel(ensemble, encoding, goals)
with torch.no_grad():
    posterior = members.posterior(X[:3])
for i in range(3):
    mean, std = posterior.mean[i, column], posterior.variance[i, column].sqrt()
    print(f"{compositions[i]!s:<36} {mean:.0f} ± {std:.0f} mAh/g above 3 V")

# %% [markdown]
# ## A loop
#
# `DRXNetGaussianModel` adds what the members cannot know: errors that they share, smoothness, scatter of cells. It is
# conditioned on what was measured and goes into any acquisition function. The truth here is the fifth member plus an
# offset; the model has the other four.

# %%
rest, truth = ensemble.subset([0, 1, 2, 3]), ensemble.subset([4])
with torch.no_grad():
    Y_true = DRXNetEnsembleModel(truth, encoding, goals)(X)[0].clone()
Y_true[:, column] += 15.0

measured, best = [0, 1, 2], []
for _ in range(4):
    model = DRXNetGaussianModel(rest, encoding, goals, X[measured], Y_true[measured])
    improvement = qLogNoisyExpectedImprovement(
        model,
        X[measured],
        objective=GenericMCObjective(lambda Y, X=None: Y[..., column]),
    )
    left = [i for i in range(len(X)) if i not in measured]
    picked, _ = optimize_acqf_discrete(improvement, q=2, choices=X[left])
    measured += [int(torch.where((X == row).all(1))[0][0]) for row in picked]
    best.append(float(Y_true[measured, column].max()))
print(
    "best so far:",
    [round(b) for b in best],
    "of",
    round(float(Y_true[:, column].max())),
    "mAh/g above 3 V",
)

# %%
figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
with torch.no_grad():
    told = model.posterior(X)
    mean, std = told.mean[:, column], told.variance[:, column].sqrt()
axes.errorbar(
    Y_true[:, column], mean, std, fmt=".", color="0.6", label="predicted", linewidth=0.6
)
axes.plot(Y_true[measured, column], mean[measured], "o", label="measured")
axes.axline((100, 100), slope=1, color="k", linewidth=0.6)
axes.set(xlabel="true capacity above 3 V (mAh/g)", ylabel="model (mAh/g)")
axes.legend()
plt.show()
