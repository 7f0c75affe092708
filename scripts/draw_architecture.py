"""Draw the rooms of the code and who imports whom, lazily or not, into docs/architecture.svg.

An arrow that a longer way stands for is left out: the command line imports the ledger, but the picture shows it going
down through the floors between.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import grimp
import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update(
    {"svg.hashsalt": "drx-screen", "svg.fonttype": "none"}
)  # the same picture from the same code
from matplotlib import pyplot as plt  # noqa: E402 - after the backend is chosen
from matplotlib.patches import FancyBboxPatch  # noqa: E402

FLOORS = (
    (("campaigns.cli", "commands: parse, call, print"),),
    (("campaigns.server", "the verbs over HTTP, and the page"),),
    (("campaigns.campaign", "the face: what users call"),),
    (("campaigns.client", "the same face at an address"),),
    (("campaigns.report", "page, figures, export"),),
    (("campaigns.loop", "propose, rank, learn, rehearse"), ("campaigns.backup", "a campaign as one file")),
    (("campaigns.intake", "files in, checked and recorded"), ("campaigns.recipe", "what to weigh, how to fire")),
    (("campaigns.workspace", "an opened campaign"),),
    (("campaigns.spec", "what its YAML says"),),
    (("campaigns.ledger", "the database: all state, weights too"),),
    (("screening", "spaces, filters, surrogate, choice"),),
    (("drxnet", "composition -> discharge profile"),),
    (("configs", "shipped YAML"),),
)
"""From the top floor down: rooms and what is in them; nobody imports upwards."""

SAME_ROOM = {
    "campaigns.example": "campaigns.loop",
    "campaigns.template": "campaigns.workspace",
    "campaigns.errors": "campaigns.ledger",
    "campaigns.firing": "campaigns.recipe",
    "campaigns.testing": "campaigns.intake",
    "campaigns.verification": "campaigns.backup",
}
COLOURS = {"campaigns": "#dbe9f6", "screening": "#e3f1de", "drxnet": "#fbe8d3", "configs": "#eeeeee"}
WIDTH, HEIGHT, STEP = 3.6, 0.62, 1.05


def rooms() -> dict[str, tuple[float, float]]:
    """Middle of every room in the picture."""
    places = {}
    for floor, row in enumerate(FLOORS):
        for i, (room, _) in enumerate(row):
            places[room] = ((i - (len(row) - 1) / 2) * (WIDTH + 0.8), -floor * STEP)
    return places


def room_of(module: str) -> str | None:
    """Room that a module is in; none of a package's own front page."""
    found = [room for room in rooms() if module == room or module.startswith(f"{room}.")]
    return SAME_ROOM.get(module) or (found[0] if found else None)


def imports() -> Counter[tuple[str, str]]:
    """How many modules of one room import one of another."""
    graph = grimp.build_graph("drxnet", "screening", "campaigns", "configs", cache_dir=None)
    found: Counter[tuple[str, str]] = Counter()
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            pair = room_of(module), room_of(imported)
            if pair[0] and pair[1] and pair[0] != pair[1]:
                found[pair[0], pair[1]] += 1
    return found


def shown(every: Counter[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """Arrows that no longer way stands for."""
    below: dict[str, set[str]] = {}
    for one, other in every:
        below.setdefault(one, set()).add(other)

    def reach(room: str) -> set[str]:
        return below.get(room, set()).union(*(reach(r) for r in below.get(room, ())))

    return {
        (one, other): number
        for (one, other), number in sorted(every.items())
        if not any(other in reach(between) for between in below[one] - {other})
    }


def draw(target: Path) -> None:
    """Write the picture."""
    places = rooms()
    figure, axes = plt.subplots(figsize=(8, 9))
    for (one, other), number in shown(imports()).items():
        (x0, y0), (x1, y1) = places[one], places[other]
        far = round((y0 - y1) / STEP) > 1 and x0 >= x1
        bent = far and x0 == x1
        axes.annotate(
            "",
            (x1 + (WIDTH / 2 if far else 0), y1 + (0 if far else HEIGHT / 2)),
            (x0 + (WIDTH / 2 if bent else 0), y0 - (0 if bent else HEIGHT / 2)),
            arrowprops={
                "arrowstyle": "-|>",
                "color": "#777777",
                "linewidth": 0.5 + min(number, 40) / 14,
                "connectionstyle": f"arc3,rad={-0.28 - 0.03 * (y0 - y1)}" if bent else "arc3,rad=0",
            },
        )
    for (room, holds), (x, y) in ((named, places[named[0]]) for row in FLOORS for named in row):
        corner = (x - WIDTH / 2, y - HEIGHT / 2)
        colour = COLOURS[room.partition(".")[0]]
        axes.add_patch(FancyBboxPatch(corner, WIDTH, HEIGHT, "round,pad=0.02", facecolor=colour, edgecolor="#555555"))
        axes.text(x, y + 0.1, room, ha="center", va="center", weight="bold")
        axes.text(x, y - 0.16, holds, ha="center", va="center", fontsize=8)
    axes.set(xlim=(-4.3, 4.6), ylim=(-STEP * len(FLOORS) + 0.3, 0.7))
    axes.axis("off")
    target.parent.mkdir(exist_ok=True)
    figure.savefig(target, bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    draw(Path(__file__).parents[1] / "docs" / "architecture.svg")
