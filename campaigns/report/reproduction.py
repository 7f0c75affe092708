"""The figures of the paper, one function each: a table beside the printed numbers, and a drawing.

Zhong et al., Joule 8, 1-18 (2024), doi:10.1016/j.joule.2024.03.010. Figures of data (2, 3 and S8) take DRX-TD where it
is at hand; without it they take cells simulated from an ensemble, and every table and drawing says so. The printed
numbers are of the full data set with models trained on it; the open part of DRX-TD and simulated cells give others.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from drxnet.composition import Composition
from drxnet.dataset import ProfileSet, summarize
from drxnet.discharge import CyclingConditions
from drxnet.ensemble import Ensemble, mean_and_spread
from drxnet.files import save_figure
from drxnet.progress import Progress, silent
from drxnet.style import COLOURS, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from drxnet.evaluation import Evaluation
    from drxnet.training import TrainingOptions

_Residuals = tuple[ProfileSet, np.ndarray, np.ndarray]
"""Profiles, what the model says of them and what is true, P x voltages (mAh/g)."""

HE1 = Composition.parse("Li1.2Mn0.1Mg0.1Cr0.3Ti0.2Nb0.1O1.8F0.2")
HE2 = Composition.parse("Li1.2Mn0.1Mg0.1Cr0.15V0.15Ti0.2Nb0.1O1.8F0.2")

WINDOW = (1.5, 4.8)
GET_DRXTD = "The open part of DRX-TD (12,688 profiles): drx-screen data fetch drx-td --out drx-td, then --data drx-td."
SIMULATED = "Simulated cells, not DRX-TD."

_FADE_CYCLES = 20


@dataclass(frozen=True, eq=False)
class Reproduction:
    """One figure of the paper, made again."""

    figure: str
    title: str
    rows: list[dict[str, Any]]
    """What the drawing shows, the paper's number (``paper``) beside this one's (``here``) where one is printed."""

    simulated: bool
    """Whether cells simulated from an ensemble stand for measured ones."""

    notes: list[str]
    draw: Callable[[Path], None]
    """Write the drawing to a ``.png``, ``.svg`` or ``.pdf``."""


def _row(what: str, here: Any, paper: Any = None, unit: str = "") -> dict[str, Any]:
    return {"what": what, "here": here, "paper": paper, "unit": unit}


# -- figure 2: the data set ------------------------------------------------------------------------------------


def data_set(profiles: ProfileSet, *, simulated: bool) -> Reproduction:
    """Elements, cycles and currents of a data set (figure 2A and B)."""
    from drxnet.dataset import plot_summary

    facts = summarize(profiles)
    elements = facts["elements"]
    currents = {float(current): count for current, count in facts["current_ma_g"].items()}
    cycles = np.array([float(c) for c in facts["cycles"]])
    weights = np.array(list(facts["cycles"].values()), float)
    most_current = max(currents, key=lambda current: currents[current])
    rows = [
        _row("discharge profiles", facts["profiles"], 19502),
        _row("of them oxides", facts["oxides"], 7898),
        _row("of them oxyfluorides", facts["oxyfluorides"], 11604),
        _row("elements, O and F among them", len(elements), 16),
        _row("compositions", facts["compositions"]),
        _row("commonest current", most_current, 20, "mA/g"),
        _row("profiles at it", f"{currents[most_current] / facts['profiles']:.0%}", "most"),
        _row("profiles up to cycle 100", f"{weights[cycles <= 100].sum() / weights.sum():.0%}", "most"),
    ]
    rows += [_row(f"profiles with {s}", e["profiles"], unit=f"{e['compositions']} comp.") for s, e in elements.items()]
    notes = [SIMULATED, GET_DRXTD] if simulated else ["The open data set is a part of what the paper was trained on."]

    @styled
    def draw(path: Path) -> None:
        plot_summary(facts, path, note=SIMULATED if simulated else "")

    return Reproduction("fig2", "The data set", rows, simulated, notes, draw)


# -- figure 3: what a model of some families knows of others -------------------------------------------------------

_Errors = dict[str, tuple[float, float | None]]
"""Mean absolute errors that the paper prints for a family (mAh/g, V)."""

_CASES: tuple[tuple[str, tuple[str, ...], tuple[str, ...], bool, _Errors], ...] = (
    ("2TM", ("2TM",), ("3TM", "HE"), False, {"3TM": (23.38, 0.10), "HE": (29.97, 0.13)}),
    ("2TM and first cycles", ("2TM",), ("3TM", "HE"), True, {"3TM": (14.84, None), "HE": (17.58, None)}),
    ("2TM and 3TM", ("2TM", "3TM"), ("HE",), False, {"HE": (19.63, None)}),
)
"""Panels A-B, C-D and F: learned from, asked about, first cycles learned too, the paper's errors (mAh/g, V)."""

_DEVIATION = {"3TM": (36.59, 0.16), "HE": (38.54, 0.21)}
"""What predicting the mean would give, in the paper (mAh/g, V)."""


def applicability(
    profiles: ProfileSet,
    options: TrainingOptions,
    *,
    simulated: bool,
    steps: int | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Reproduction:
    """Errors on families that were not learned (figure 3), of models trained here.

    Args:
        profiles: all families.
        options: of training.
        simulated: whether the profiles are.
        steps: of every training, whatever the size of its set; by default the epochs of the options.
        seed: of the trainings.
        progress: told of trainings.
    """
    from drxnet.evaluation import evaluate, split
    from drxnet.training import pretrain

    panels, rows = [], []
    for done, (name, learned, asked, first, paper) in enumerate(_CASES):
        known, test = split(profiles, learned, asked, with_first_cycle=first)
        model = pretrain(known, with_steps(options, known, steps), seed=seed)
        evaluation = evaluate(model, test)
        found = {row["family"]: row for row in evaluation.rows()}
        for family, row in found.items():
            mae, volts = paper[family]
            label = f"{family} after {name}"
            rows.append(_row(f"{label}: MAE of Q(2.0-4.4 V)", round(row["capacity_mae_mah_g"], 1), mae, "mAh/g"))
            rows.append(_row(f"{label}: MAE of mean voltage", round(row["voltage_mae_v"], 3), volts, "V"))
            panels.append((label, family, evaluation, row))
        progress(done + 1, len(_CASES))
    seen: dict[str, dict[str, Any]] = {}
    for _, family, _, row in panels:
        seen.setdefault(family, row)
    for family, row in seen.items():
        mae, volts = _DEVIATION[family]
        rows.append(_row(f"{family}: mean absolute deviation of Q", round(row["capacity_mad_mah_g"], 1), mae, "mAh/g"))
        rows.append(_row(f"{family}: mean absolute deviation of voltage", round(row["voltage_mad_v"], 3), volts, "V"))

    notes = [SIMULATED, GET_DRXTD] if simulated else []
    taken = f"{options.epochs} epochs" if steps is None else f"about {steps} steps each"
    notes.append(
        f"{options.members} members trained here, {taken}; the paper trained five for 30 epochs on the data of its lab."
    )
    draw = partial(_draw_errors, panels, simulated)
    return Reproduction("fig3", "Errors on families that were not learned", rows, simulated, notes, draw)


@styled
def _draw_errors(panels: Sequence[tuple[str, str, Evaluation, dict[str, Any]]], simulated: bool, path: Path) -> None:
    """Errors over the cycle, a panel for each family that was asked about."""
    figure = new_figure(13, 7.2)
    axes = figure.subplots(2, 3, sharex=True, sharey=True).ravel()
    most = max(float(np.quantile(e.spread_mah_g, 0.95)) for _, _, e, _ in panels) or 1.0
    dots = None
    for panel, (label, family, evaluation, row) in zip(axes, panels, strict=False):
        at = evaluation.family == family
        dots = panel.scatter(
            evaluation.cycle[at], evaluation.error_mah_g[at], c=evaluation.spread_mah_g[at], s=9, vmin=0, vmax=most
        )
        panel.set_title(f"{label}: MAE {row['capacity_mae_mah_g']:.1f} mAh/g", fontsize=9)
        panel.set(xlabel="cycle", ylabel="error of Q(2.0-4.4 V) (mAh/g)")
    for empty in axes[len(panels) :]:
        empty.axis("off")
    if dots is not None:
        figure.colorbar(dots, ax=list(axes), label="s.d. over members (mAh/g, ddof 0)")
    _mark(figure, simulated)
    save_figure(figure, path, dpi=150)


def with_steps(options: TrainingOptions, profiles: ProfileSet, steps: int | None) -> TrainingOptions:
    """Options with as many epochs as give a number of steps, and the same fall of the learning rate over them."""
    from drxnet.training import TrainingTensors

    if steps is None:
        return options
    each = TrainingTensors(profiles).steps(options.profiles_per_batch, options.points_per_profile)
    epochs = max(1, round(steps / each))
    fall: float = options.decay**options.epochs
    return replace(options, epochs=epochs, decay=fall ** (1 / epochs))


# -- figure 4: the Li-Mn-O-F map -------------------------------------------------------------------------------


def design_map(ensemble: Ensemble, *, points: int = 61) -> Reproduction:
    """Capacity over Li and F in Li-Mn-O-F at cycles 1 and 30 (figure 4B and C)."""
    from drxnet.figures import capacity_map, plot_map
    from screening.domain import known_compositions

    conditions = [CyclingConditions(20, *WINDOW, 1), CyclingConditions(20, *WINDOW, 30)]
    found = capacity_map(ensemble, conditions, x_range=(1.05, 4 / 3), y_range=(0.0, 2 / 3), points=points)
    corner, oxide, oxyfluoride = (
        Composition.parse(f) for f in ("Li1.3333Mn0.6667O2", "Li1.25Mn0.75O2", "Li1.25Mn0.75O1.7F0.3")
    )
    q, _ = mean_and_spread(ensemble.capacity([corner, oxide, oxyfluoride], conditions))
    first, later = (field[np.isfinite(field)] for field in found.capacity_mah_g)
    rows = [
        _row("Li1.333Mn0.667O2, cycle 1", round(float(q[0, 0])), "> 320", "mAh/g"),
        _row("its rank in the map at cycle 1 (1: highest)", int((first > q[0, 0] + 0.5).sum()) + 1, 1),
        _row("Li1.333Mn0.667O2, cycle 30", round(float(q[0, 1])), "lowest", "mAh/g"),
        _row("share of the map below it at cycle 30", f"{(later < q[0, 1] - 0.5).mean():.0%}", "0%"),
        _row("0.3 F in Li1.25Mn0.75O2 changes cycle 1 by", round(float(q[2, 0] - q[1, 0])), "< 0", "mAh/g"),
        _row("0.3 F in Li1.25Mn0.75O2 changes cycle 30 by", round(float(q[2, 1] - q[1, 1])), "> 0", "mAh/g"),
        _row("highest capacity of the map, cycle 1", round(float(first.max())), "> 320", "mAh/g"),
        _row("lowest capacity of the map, cycle 30", round(float(later.min())), None, "mAh/g"),
    ]
    made = [(c.lithium, c.fluorine) for c in known_compositions() if set(c.metals) == {"Mn"}]

    @styled
    def draw(path: Path) -> None:
        plot_map(found, path, model=ensemble.card.name, stars=made)

    notes = [f"Model {ensemble.card.name}. Stars: Li-Mn-O-F rocksalts that the package knows of."]
    return Reproduction("fig4", "Capacity of Li-Mn-O-F over Li and F", rows, False, notes, draw)


# -- figure 5: two high-entropy cathodes ---------------------------------------------------------------------------

_RATES = (20.0, 50.0, 100.0, 200.0, 400.0, 1000.0)
_PRINTED = {(HE1, 20.0): 276, (HE1, 1000.0): 196, (HE2, 20.0): 266, (HE2, 1000.0): 171}


def high_entropy(ensemble: Ensemble) -> Reproduction:
    """Profiles of HE-1 and HE-2 at several currents and windows, with dQ/dV and fade (figures 5 and S7)."""
    low, high = CyclingConditions(20, *WINDOW), CyclingConditions(1000, *WINDOW)
    q, spread = mean_and_spread(ensemble.capacity([HE1, HE2], [low, high]))
    rows = []
    for i, (name, composition) in enumerate((("HE-1", HE1), ("HE-2", HE2))):
        for j, current in enumerate((20.0, 1000.0)):
            here = f"{q[i, j]:.0f} ± {spread[i, j]:.0f}"
            rows.append(_row(f"{name}, {current:g} mA/g", here, _PRINTED[composition, current], "mAh/g"))
        rows.append(_row(f"{name}, kept at 1000 mA/g", f"{q[i, 1] / q[i, 0]:.0%}", "71%" if i == 0 else "64%"))
    narrow = CyclingConditions(20, 2.0, 4.0)
    at_top = ensemble.predict([HE2], narrow, np.array([4.0]))[:, 0, 0].double().cpu().numpy()
    rows.append(_row("HE-2 at 4.0 V in 2.0-4.0 V, 20 mA/g (should be 0)", round(float(at_top.mean()), 1), 6, "mAh/g"))
    cycles = list(range(1, _FADE_CYCLES + 1))
    kept, _ = mean_and_spread(ensemble.capacity([HE1, HE2], [CyclingConditions(20, *WINDOW, n) for n in cycles]))
    for name, line in zip(("HE-1", "HE-2"), kept, strict=True):
        early, late = line[0] - line[4], line[4] - line[9]
        rows.append(_row(f"{name}: lost in cycles 1-5 / 5-10", f"{early:.0f} / {late:.0f}", "slows down", "mAh/g"))
    panels = [
        ("A  HE-1", HE1, WINDOW, _RATES),
        ("B  HE-2", HE2, WINDOW, _RATES),
        ("C  HE-2", HE2, (2.0, 4.4), (10.0, *_RATES, 10000.0)),
        ("D  HE-2", HE2, (2.0, 4.0), (10.0, *_RATES, 10000.0)),
    ]

    @styled
    def draw(path: Path) -> None:
        figure = new_figure(12, 14)
        grid = figure.subplots(4, 2, width_ratios=[1.25, 1])
        for (title, composition, window, rates), (left, right) in zip(panels, grid, strict=True):
            _draw_rates(left, right, ensemble, composition, window, rates)
            left.set_title(f"{title}, {window[0]:g}-{window[1]:g} V", loc="left", fontsize=10)
            if window == WINDOW:
                inset = left.inset_axes((0.45, 0.57, 0.28, 0.34))
                inset.plot(cycles, kept[0 if composition is HE1 else 1], ".-", color=COLOURS[0], markersize=3)
                inset.set(ylim=(0, None), xticks=[1, 10, 20])
                inset.set_title("mAh/g over cycles, 20 mA/g", fontsize=6, pad=2)
                inset.tick_params(labelsize=6, pad=1, length=2)
        grid[0, 1].set_title(f"model {ensemble.card.name}; band: ± 1 s.d. over members (ddof 0)", fontsize=8)
        save_figure(figure, path, dpi=130)

    notes = [f"Model {ensemble.card.name}; mean ± population standard deviation over members."]
    return Reproduction("fig5", "Two high-entropy cathodes", rows, False, notes, draw)


def _draw_rates(
    left: Axes,
    right: Axes,
    ensemble: Ensemble,
    composition: Composition,
    window: tuple[float, float],
    rates: Sequence[float],
) -> None:
    """Draw profiles (left) and -dQ/dV (right) of one composition at several currents."""
    from matplotlib import colormaps

    grid = np.linspace(*window, 150)
    shades = colormaps["viridis"](np.linspace(0.0, 0.92, len(rates)))
    for current, colour in zip(rates, shades, strict=True):
        conditions = CyclingConditions(current, *window)
        mean, spread = mean_and_spread(ensemble.predict([composition], conditions, grid)[:, 0])
        left.plot(mean, grid, color=colour, label=f"{current:g} mA/g")
        left.fill_betweenx(grid, mean - spread, mean + spread, color=colour, alpha=0.12, linewidth=0)
        slope, _ = mean_and_spread(ensemble.predict_dqdv([composition], conditions, grid)[:, 0])
        right.plot(grid, -slope, color=colour)
    left.set(xlabel="capacity (mAh/g)", ylabel="voltage (V vs Li/Li$^+$)", xlim=(0, None))
    left.legend(frameon=False, fontsize=7, loc="upper right")
    right.set(xlabel="voltage (V vs Li/Li$^+$)", ylabel="-dQ/dV (mAh/g/V)", ylim=(0, None))


# -- figure S6: a collection of high-entropy predictions -----------------------------------------------------------

_BIVALENT, _TRIVALENT = ("Mn", "Fe", "Ni", "Mg"), ("Mn", "Cr", "V", "Fe")


def skeleton() -> list[tuple[str, Composition]]:
    """Compositions like HE-1 and HE-2: Li1.2 A0.2 B0.3 Ti0.2 Nb0.1 O1.8 F0.2.

    A is one of the paper's bivalent species (Mn, Fe, Ni, Mg) or two in equal parts, B likewise of the trivalent ones
    (Mn, Cr, V, Fe). Pairs whose ions would surely react are left out, and the same amounts of elements come once.

    Returns:
        A label such as ``Mn Mg | Cr V``, and the composition.
    """
    from screening.species import Species, compatibility

    def parts(symbols: Sequence[str]) -> list[tuple[str, ...]]:
        return [*((s,) for s in symbols), *itertools.combinations(symbols, 2)]

    found: dict[Composition, str] = {}
    for two, three in itertools.product(parts(_BIVALENT), parts(_TRIVALENT)):
        species = [*(Species(s, 2) for s in two), *(Species(s, 3) for s in three)]
        if any(compatibility(a, b) in ("impossible", "unlikely") for a, b in itertools.combinations(species, 2)):
            continue
        amounts = {"Li": 1.2, "Ti": 0.2, "Nb": 0.1, "O": 1.8, "F": 0.2}
        for group, total in ((two, 0.2), (three, 0.3)):
            for s in group:
                amounts[s] = amounts.get(s, 0.0) + total / len(group)
        found.setdefault(Composition.from_amounts(amounts), f"{' '.join(two)} | {' '.join(three)}")
    return [(label, composition) for composition, label in found.items()]


def collection(ensemble: Ensemble) -> Reproduction:
    """Predictions for many high-entropy cathodes on the paper's skeleton (in the manner of figure S6)."""
    listed = skeleton()
    compositions = [c for _, c in listed]
    conditions = [CyclingConditions(current, *WINDOW) for current in _RATES]
    members = ensemble.capacity(compositions, conditions).double().cpu().numpy()
    mean, spread = members.mean(0), members.std(0)
    kept = mean[:, -1] / mean[:, 0]
    order = np.argsort(-mean[:, -1])
    rows = []
    for i in order:
        label, composition = listed[i]
        printed = [_PRINTED.get((composition, current)) for current in (20.0, 1000.0)]
        rows.append(
            {
                "what": label + (" (HE-1)" if composition == HE1 else " (HE-2)" if composition == HE2 else ""),
                "composition": composition.formula,
                "capacity_mah_g_20": round(float(mean[i, 0]), 1),
                "std_20": round(float(spread[i, 0]), 1),
                "capacity_mah_g_1000": round(float(mean[i, -1]), 1),
                "std_1000": round(float(spread[i, -1]), 1),
                "kept": round(float(kept[i]), 3),
                "paper": f"{printed[0]} / {printed[1]}" if printed[0] else None,
            }
        )

    @styled
    def draw(path: Path) -> None:
        named = [i for i in order if listed[i][1] in (HE1, HE2)]
        sure = [i for i in order if spread[i, 0] < 40 and i not in named][: 20 - len(named)]
        best = [i for i in order if i in named or i in sure]
        figure = new_figure(13, 12)
        axes = figure.subplots(5, 4, sharex=True, sharey=True).ravel()
        grid = np.linspace(*WINDOW, 100)
        for panel, i in zip(axes, best, strict=False):
            for current, colour in zip((20.0, 100.0, 1000.0), COLOURS, strict=False):
                at = CyclingConditions(current, *WINDOW)
                q, s = mean_and_spread(ensemble.predict([compositions[i]], at, grid)[:, 0])
                panel.plot(q, grid, color=colour, label=f"{current:g} mA/g")
                panel.fill_betweenx(grid, q - s, q + s, color=colour, alpha=0.15, linewidth=0)
            panel.set_title(rows[int(np.flatnonzero(order == i)[0])]["what"], fontsize=8)
            panel.set_xlim(0, None)
        axes[0].legend(frameon=False, fontsize=7)
        figure.supxlabel("capacity (mAh/g)")
        figure.supylabel("voltage (V vs Li/Li$^+$)")
        figure.suptitle(
            f"Li1.2 A0.2 B0.3 Ti0.2 Nb0.1 O1.8 F0.2, A | B; model {ensemble.card.name}; band: ± 1 s.d. over members; "
            "members within 40 mAh/g, by Q(1000 mA/g)",
            fontsize=9,
        )
        save_figure(figure, path, dpi=130)

    notes = [
        f"Model {ensemble.card.name}. The paper's list of figure S6 is in its supplement; here: every A and B of its "
        "skeleton, alone or two in equal parts, that would not react with each other. Where the spread is tens of "
        "mAh/g the members do not know."
    ]
    return Reproduction("s6", "A collection of high-entropy cathodes", rows, False, notes, draw)


# -- figure S8: the first-cycle term of the loss -------------------------------------------------------------------


def ablation(
    profiles: ProfileSet,
    options: TrainingOptions,
    *,
    simulated: bool,
    steps: int | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Reproduction:
    """Train with and without the first-cycle term l(Q1) of the loss, and compare (figure S8).

    Args:
        profiles: a tenth of the compositions is held out.
        options: of training.
        simulated: whether the profiles are.
        steps: as for :func:`applicability`.
        seed: of the split and the trainings.
        progress: told of trainings.
    """
    from drxnet.training import pretrain

    known, hidden = profiles.hold_out(0.1, seed)
    whole = with_steps(options, known, steps)
    cases = (
        ("with l(Q1)", whole),
        ("without l(Q1)", replace(whole, first_cycle_weight=0.0)),
    )
    rows, compared = [], []
    for done, (name, chosen) in enumerate(cases):
        model = pretrain(known, chosen, seed=seed)
        residuals = []
        for part in (known, hidden):
            q = model.predict(list(part.compositions), part.conditions, part.voltage_v).double().cpu().numpy().mean(0)
            truth = part.capacity_mah_g if part.members is None else part.capacity_mah_g.mean(0)
            residuals.append((part, q, truth))
        loss = model.card.provenance["final_losses"]["capacity_mse"]
        rows.append(_row(f"{name}: root of the last loss of Q", round(float(np.sqrt(loss)), 2), None, "mAh/g"))
        for label, (part, q, truth) in zip(("learned", "held out"), residuals, strict=True):
            for cycles, at in (("cycle 1", part.cycle == 1), ("later cycles", part.cycle > 1)):
                if at.any():
                    error = float(np.abs(q - truth)[at].mean())
                    rows.append(_row(f"{name}: MAE of Q, {label}, {cycles}", round(error, 2), None, "mAh/g"))
        compared.append((name, residuals))
        progress(done + 1, len(cases))
    by_name = {row["what"]: row["here"] for row in rows}
    ratio = by_name["without l(Q1): root of the last loss of Q"] / by_name["with l(Q1): root of the last loss of Q"]
    rows.append(_row("loss without / with", round(ratio, 2), "> 1 (underfitted without)"))

    notes = [SIMULATED, GET_DRXTD] if simulated else []
    notes.append(f"{options.members} members, the same steps, seed and data with and without the term.")
    draw = partial(_draw_parity, compared, simulated)
    return Reproduction("s8", "The first-cycle term of the loss", rows, simulated, notes, draw)


@styled
def _draw_parity(compared: Sequence[tuple[str, list[_Residuals]]], simulated: bool, path: Path) -> None:
    """Capacities of the model over those of the data: a line for each training, learned and held out."""
    figure = new_figure(9.5, 8.5)
    axes = figure.subplots(2, 2, sharex=True, sharey=True)
    for line, (name, residuals) in zip(axes, compared, strict=True):
        for panel, label, (_, q, truth) in zip(line, ("learned", "held out"), residuals, strict=True):
            panel.plot(truth[:, ::8].ravel(), q[:, ::8].ravel(), ".", markersize=1.5, color=COLOURS[0], alpha=0.4)
            top = float(truth.max())
            panel.plot([0, top], [0, top], color="0.5", linewidth=0.8)
            panel.set_title(f"{name}, {label}: MAE {np.abs(q - truth).mean():.1f} mAh/g", fontsize=9)
            panel.set(xlabel="Q of the data (mAh/g)", ylabel="Q of the model (mAh/g)")
    _mark(figure, simulated)
    save_figure(figure, path, dpi=150)


def _mark(figure: Figure, simulated: bool) -> None:
    if simulated:
        figure.suptitle(SIMULATED, fontsize=9, color="#B00000", x=0.01, ha="left")


# -- cells where DRX-TD is missing ---------------------------------------------------------------------------------


def simulated_cells(ensemble: Ensemble, *, compositions: int = 240, seed: int = 0) -> ProfileSet:
    """Cells as a laboratory cycles them, drawn from an ensemble: two of each composition, six discharges of each."""
    from drxnet.simulation import ConditionMix, draw_domain, simulate

    rng = np.random.default_rng(seed)
    drawn = draw_domain(ensemble, compositions, rng)
    cells = ConditionMix(last_cycle=50).draw_cells(2 * len(drawn), rng)
    discharges = [(i, conditions) for i, cell in enumerate(cells) for conditions in cell]
    return simulate(
        ensemble,
        [drawn[i % len(drawn)] for i, _ in discharges],
        [conditions for _, conditions in discharges],
        cells=[i for i, _ in discharges],
        seed=seed,
    )
