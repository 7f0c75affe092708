# %% [markdown]
# # Predict and plot
#
# What the model says of two high-entropy cathodes of the paper (Zhong et al., Joule 8, 2024), and how sure it is.
# Nothing is downloaded: the ensemble ships with the package.

# %%
from matplotlib import pyplot as plt

from drxnet import CyclingConditions, Ensemble

ensemble = Ensemble.load("default")
cathodes = {
    "HE-1": "Li1.2Mn0.1Mg0.1Cr0.3Ti0.2Nb0.1O1.8F0.2",
    "HE-2": "Li1.2Mn0.1Mg0.1Cr0.15V0.15Ti0.2Nb0.1O1.8F0.2",
}
formulas = list(cathodes.values())
rates = [CyclingConditions(20), CyclingConditions(1000)]  # mA/g; 1.5-4.8 V, cycle 1

# %% [markdown]
# ## Capacity
#
# Five members, two compositions, two rates: `capacity` keeps them apart. Their standard deviation says how far the
# members disagree. It is no error of a measurement.

# %%
capacity = ensemble.capacity(formulas, rates).numpy()
print(capacity.shape, "members x compositions x conditions, mAh/g")
for i, name in enumerate(cathodes):
    for j, rate in enumerate(rates):
        members = capacity[:, i, j]
        print(
            f"{name}  {rate.current_ma_g:>5g} mA/g  {members.mean():.0f} ± {members.std():.0f} mAh/g"
        )

# %% [markdown]
# What one cell of a laboratory that has measured nothing yet would give is less certain: the model errs, and
# laboratories, powders and cells differ. The 80 % interval holds all of that.

# %%
import json
import subprocess
import sys

drx_screen = [
    sys.executable,
    "-m",
    "campaigns.cli",
]  # `drx-screen`, of the Python that runs this notebook
command = [
    *drx_screen,
    "predict",
    *formulas,
    "--current",
    "20",
    "--current",
    "1000",
    "--format",
    "json",
]
for row in json.loads(subprocess.run(command, capture_output=True, check=True).stdout):
    low, high = row["capacity_mah_g_lower"], row["capacity_mah_g_upper"]
    print(
        f"{row['composition']}  {row['current_ma_g']:>5g} mA/g  {low:.0f} to {high:.0f} mAh/g, {row['domain']}"
    )

# %% [markdown]
# ## The whole discharge
#
# A profile is capacity against voltage. Its derivative dQ/dV shows where the capacity comes from.

# %%
voltages = rates[0].grid()
profiles = ensemble.profiles(formulas, rates, voltages).numpy()
slopes = ensemble.predict_dqdv(formulas, rates[0], voltages).numpy()

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
for i, name in enumerate(cathodes):
    for j, rate in enumerate(rates):
        mean, std = profiles[:, i, j].mean(0), profiles[:, i, j].std(0)
        left.plot(
            mean,
            voltages,
            "--" if j else "-",
            color=f"C{i}",
            label=f"{name}, {rate.current_ma_g:g} mA/g",
        )
        left.fill_betweenx(
            voltages, mean - std, mean + std, color=f"C{i}", alpha=0.15, linewidth=0
        )
    right.plot(voltages, -slopes[:, i].mean(0), color=f"C{i}", label=name)
left.set(xlabel="capacity (mAh/g)", ylabel="voltage (V)")
right.set(xlabel="voltage (V)", ylabel="-dQ/dV (mAh/g/V)")
left.legend(fontsize=8)
right.legend(fontsize=8)
plt.show()

# %% [markdown]
# ## Rate and cycle
#
# Current and cycle number are inputs of the network, so a curve over either costs one call.

# %%
currents, cycles = [20, 50, 100, 200, 500, 1000, 2000], [1, 5, 10, 20, 30]
over_rate = ensemble.capacity(
    formulas, [CyclingConditions(i) for i in currents]
).numpy()
over_cycle = ensemble.capacity(
    formulas, [CyclingConditions(20, cycle=n) for n in cycles]
).numpy()

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
for i, name in enumerate(cathodes):
    left.errorbar(
        currents,
        over_rate[:, i].mean(0),
        over_rate[:, i].std(0),
        marker="o",
        label=name,
    )
    right.errorbar(
        cycles,
        over_cycle[:, i].mean(0),
        over_cycle[:, i].std(0),
        marker="o",
        label=name,
    )
left.set(xscale="log", xlabel="current (mA/g)", ylabel="capacity (mAh/g)")
right.set(xlabel="cycle at 20 mA/g", ylabel="capacity (mAh/g)")
left.legend()
plt.show()

# %% [markdown]
# On the command line: `drx-screen predict Li1.2Mn0.4Ti0.4O2 --current 20 --current 1000 --plot lmto.png`.
