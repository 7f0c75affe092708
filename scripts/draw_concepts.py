"""Draw the pictures of the concepts into docs/pictures, from what the code says today: ``scripts/draw_concepts.py``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update(
    {
        "svg.hashsalt": "drx-screen",  # the same picture from the same code
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "path.simplify_threshold": 0.5,
    }
)
import numpy as np  # noqa: E402 - after the backend is chosen
import torch  # noqa: E402
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch  # noqa: E402

from drxnet import Composition, CyclingConditions, Ensemble  # noqa: E402
from drxnet.uncertainty import CELL_TO_CELL, shipped_levels  # noqa: E402
from screening.batch import choose_batch  # noqa: E402
from screening.lattice import Lattice  # noqa: E402
from screening.outlook import Outlook  # noqa: E402
from screening.space import load_space  # noqa: E402
from screening.species import fill_ladder, oxidation_order  # noqa: E402

TARGET = Path(__file__).parents[1] / "docs" / "pictures"
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#767676"
HE_1, LMTO = "Li1.2Mn0.1Mg0.1Cr0.3Ti0.2Nb0.1O1.8F0.2", "Li1.2Mn0.4Ti0.4O2"


def save(name: str) -> None:
    """Write the current figure."""
    TARGET.mkdir(exist_ok=True)
    plt.savefig(TARGET / f"{name}.svg", bbox_inches="tight", metadata={"Date": None})
    plt.close()


def box(axes: Axes, x: float, y: float, text: str, colour: str = "#dbe9f6", width: float = 2.0) -> None:
    """A rounded box with a text in it, in the middle of its place."""
    corner = (x - width / 2, y - 0.3)
    axes.add_patch(FancyBboxPatch(corner, width, 0.6, "round,pad=0.04", facecolor=colour, edgecolor="#555555"))
    axes.text(x, y, text, ha="center", va="center")


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], text: str = "", bend: float = 0.0) -> None:
    """An arrow with a word beside it."""
    style = {"arrowstyle": "-|>", "mutation_scale": 14, "color": GREY, "connectionstyle": f"arc3,rad={bend}"}
    axes.add_patch(FancyArrowPatch(start, end, **style))
    if text:
        axes.text(
            (start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + 0.12, text, ha="center", fontsize=9, color="#333333"
        )


def draw_loop() -> None:
    """What goes round."""
    _, axes = plt.subplots(figsize=(8, 2.3))
    for x, text in enumerate(("enumerate", "choose", "recipes", "laboratory")):
        box(axes, 2.6 * x, 1.2, text, "#e3f1de" if x < 2 else "#eeeeee")
        if x:
            arrow(axes, (2.6 * x - 1.6, 1.2), (2.6 * x - 1.04, 1.2))
    for x, text in ((7.8, "check, record"), (3.9, "fine-tune"), (0, "DRXNet ensemble")):
        box(axes, x, 0, text, "#dbe9f6" if x else "#fbe8d3", 2.3)
    arrow(axes, (7.8, 0.9), (7.8, 0.34), "")
    axes.text(7.95, 0.6, "cycler files", fontsize=9, va="center")
    arrow(axes, (6.61, 0), (5.09, 0))
    arrow(axes, (2.71, 0), (1.19, 0))
    arrow(axes, (0, 0.34), (0, 0.86))
    axes.set(xlim=(-1.3, 9.2), ylim=(-0.5, 1.7))
    axes.axis("off")
    save("loop")


def draw_composition() -> None:
    """How many compositions of a space there are for each content of Li and F."""
    lattice = Lattice(load_space("tiny"))
    found: Counter[tuple[float, float]] = Counter()
    for _, rows in lattice.walk():
        found.update((c.lithium, c.fluorine) for c in lattice.compositions(rows))
    lithium, fluorine = (sorted({pair[i] for pair in found}) for i in (0, 1))
    counts = np.array([[found[x, y] for x in lithium] for y in fluorine])
    _, axes = plt.subplots(figsize=(4.6, 3.6))
    axes.imshow(counts, origin="lower", cmap="Blues", vmin=0, vmax=1.6 * counts.max(), aspect="auto")
    for (i, j), number in np.ndenumerate(counts):
        axes.text(j, i, f"{number:,}", ha="center", va="center")
    axes.set_xticks(range(len(lithium)), [f"{x:g}" for x in lithium])
    axes.set_yticks(range(len(fluorine)), [f"{y:g}" for y in fluorine])
    axes.set(xlabel="Li per formula unit", ylabel="F per formula unit", title=f"tiny: {len(lattice):,} compositions")
    save("composition")


def draw_redox() -> None:
    """The couples of a space in the order of the ladder, and how far one composition fills each."""
    space = load_space("wide")
    composition = Composition.parse("Li1.15Ti0.1V0.2Cr0.1Mn0.2Fe0.1Ni0.15O1.9F0.1")
    metals = [m for m in composition.metals if m != "Li"]
    amounts = np.array([[composition.metals[m] for m in metals]])
    charge = np.array([4.0 - composition.lithium - composition.fluorine])
    charges, _ = fill_ladder(metals, space.states, amounts, charge)
    couples = oxidation_order({m: space.states[m] for m in metals})
    _, axes = plt.subplots(figsize=(6, 0.55 * len(couples) + 1.4))
    for i, couple in enumerate(couples):
        at = metals.index(couple.element)
        share = float(np.clip(charges[0, at] / amounts[0, at] - couple.lower, 0, couple.upper - couple.lower))
        axes.barh(i, 1, color="#eeeeee", edgecolor=GREY)
        axes.barh(i, share / (couple.upper - couple.lower), color=ORANGE, edgecolor=GREY)
        label = f"{couple.element}{couple.lower}+ / {couple.upper}+"
        axes.text(-0.03, i, label, ha="right", va="center")
        axes.text(1.03, i, f"{share / (couple.upper - couple.lower):.0%} oxidised", va="center", fontsize=9)
    axes.set(xlim=(-0.3, 1.4), xticks=[], yticks=[], title=f"{composition}\nwhat is oxidised first is at the bottom")
    axes.spines[:].set_visible(False)
    save("redox")


def draw_profiles(ensemble: Ensemble) -> None:
    """The discharge of HE-1 at two rates, and where its capacity comes from."""
    rates = [CyclingConditions(20), CyclingConditions(1000)]
    voltages = rates[0].grid(60)
    with torch.no_grad():
        profiles = ensemble.profiles([HE_1], rates, voltages).numpy()[:, 0]
        slope = ensemble.predict_dqdv([HE_1], rates[0], voltages).numpy()[:, 0]
    _, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
    for j, colour in enumerate((BLUE, ORANGE)):
        mean, std = profiles[:, j].mean(0), profiles[:, j].std(0)
        left.plot(mean, voltages, color=colour, label=f"{rates[j].current_ma_g:g} mA/g, {mean[0]:.0f} mAh/g")
        left.fill_betweenx(voltages, mean - std, mean + std, color=colour, alpha=0.2, linewidth=0)
    left.set(xlabel="capacity (mAh/g)", ylabel="voltage (V)", title="HE-1, cycle 1")
    left.legend(frameon=False, fontsize=9)
    right.plot(voltages, -slope.mean(0), color=BLUE)
    right.fill_between(voltages, -slope.mean(0) - slope.std(0), -slope.mean(0) + slope.std(0), color=BLUE, alpha=0.2)
    right.set(xlabel="voltage (V)", ylabel="−dQ/dV (mAh/g/V)", title="where it comes from, 20 mA/g")
    save("profiles")


def draw_uncertainty(ensemble: Ensemble) -> None:
    """What the standard deviation of a new cell is made of."""
    levels, at = shipped_levels(), CyclingConditions(20)
    with torch.no_grad():
        members = ensemble.capacity([LMTO], [at]).numpy()[:, :, 0]
    parts = {
        "members disagree": float(members.std()),
        "model's error, inside": float(levels.model.typical(["inside"], np.array([at.current_ma_g]))[0]),
        "cell to cell": CELL_TO_CELL * float(members.mean()),
        "sample to sample": levels.laboratory.sample_mah_g,
        "laboratory to laboratory": levels.laboratory.laboratory_mah_g,
    }
    parts["all but the first together"] = float(np.sqrt(sum(v**2 for k, v in parts.items() if not k.startswith("mem"))))
    _, axes = plt.subplots(figsize=(6.4, 2.9))
    colours = [GREY, BLUE, BLUE, BLUE, BLUE, ORANGE]
    axes.barh(list(parts), list(parts.values()), color=colours)
    for i, value in enumerate(parts.values()):
        axes.text(value + 1, i, f"{value:.0f}", va="center")
    axes.invert_yaxis()
    axes.set(xlabel="standard deviation (mAh/g)", title=f"{LMTO} at 20 mA/g: {members.mean():.0f} mAh/g")
    save("uncertainty")


def draw_choice(ensemble: Ensemble) -> None:
    """Candidates by mean and spread, and the batch that is chosen from them."""
    lattice = Lattice(load_space("tiny"))
    candidates = lattice.compositions(lattice.sample(400, seed=0))
    outlook = Outlook.of(ensemble)
    with torch.no_grad():
        mean, std = outlook.surrogate.marginals(outlook.read(candidates))
    batch = choose_batch(candidates, outlook, n=6, strategy="promise-and-variance", seed=0)
    _, axes = plt.subplots(figsize=(6, 3.8))
    axes.scatter(mean[:, 0], std[:, 0], s=9, color="#bbbbbb", linewidths=0)
    for number, pick in enumerate(batch, 1):
        i = candidates.index(pick.composition)
        axes.plot(mean[i, 0], std[i, 0], "o", color=ORANGE)
        axes.annotate(str(number), (float(mean[i, 0]), float(std[i, 0])), (5, 4), textcoords="offset points")
    axes.set(xlabel="rate retention, mean", ylabel="standard deviation", title="promising is right, uncertain is up")
    save("choice")


def draw_ledger() -> None:
    """States of proposals and measurements."""
    _, axes = plt.subplots(figsize=(8.4, 3.6))
    for x, y, text, colour in (
        (0, 3, "proposed", "#dbe9f6"), (3, 3, "accepted", "#dbe9f6"), (6.4, 3, "measured", "#e3f1de"),
        (1.5, 1.8, "failed", "#fbe8d3"), (4.6, 1.8, "abandoned", "#fbe8d3"),
        (0, 0.2, "file", "#eeeeee"), (3, 0.7, "recorded", "#e3f1de"), (3, -0.4, "doubtful", "#fbe8d3"),
        (7.3, 0.7, "retracted, superseded", "#eeeeee"),
    ):  # fmt: skip
        box(axes, x, y, text, colour, 2.6 if len(text) > 12 else 1.7)
    arrow(axes, (0.9, 3), (2.1, 3), "mark")
    arrow(axes, (3.9, 3), (5.5, 3), "ingest")
    arrow(axes, (0.5, 2.66), (1.1, 2.14))
    arrow(axes, (2.6, 2.66), (1.9, 2.14))
    arrow(axes, (3.5, 2.66), (4.2, 2.14))
    axes.text(1.5, 1.32, "may be tried again", ha="center", fontsize=9, color="#333333", va="center")
    axes.text(4.6, 1.32, "never", ha="center", fontsize=9, color="#333333", va="center")
    arrow(axes, (0.9, 0.3), (2.1, 0.6), "checks")
    arrow(axes, (0.9, 0.1), (2.1, -0.3))
    arrow(axes, (3, -0.06), (3, 0.36))
    axes.text(3.12, 0.15, "confirm", fontsize=9, va="center", color="#333333")
    arrow(axes, (3.9, 0.7), (5.9, 0.7), "with a reason")
    arrow(axes, (3.9, -0.4), (6.6, 0.36), "")
    axes.set(xlim=(-1, 8.8), ylim=(-0.9, 3.5))
    axes.axis("off")
    save("ledger")


def draw_all() -> None:
    """Every picture."""
    ensemble = Ensemble.load("default")
    draw_loop()
    draw_composition()
    draw_redox()
    draw_profiles(ensemble)
    draw_uncertainty(ensemble)
    draw_choice(ensemble)
    draw_ledger()


if __name__ == "__main__":
    draw_all()
