"""The worked plug-in of ``examples/plugin``: installed, checked, and used from the proposal to the report."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from fakes import FakeEnsemble
from ledgers import SPACE, write_campaign
from small_model import write_small_model
from synthetic_cycler import CURRENT_MA, cell_test

from campaigns.cli import main
from campaigns.intake import readers
from campaigns.testing import check_reader
from drxnet.composition import Composition
from drxnet.plugins import plugins
from drxnet.process import FIELDS
from screening.filters import ALL_FILTERS, Filters
from screening.lattice import Lattice
from screening.outlook import Outlook
from screening.quantities import QUANTITIES
from screening.space import parse_space
from screening.strategies import STRATEGIES
from screening.testing import check_filter, check_quantity, check_strategy

PLUGIN = Path(__file__).parents[1] / "examples" / "plugin"
FORMULAS = tuple(Composition.parse(f"Li1.2Mn{0.2 + i / 20:g}Ti{0.6 - i / 20:g}O2") for i in range(10))


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What `pip install examples/plugin` leaves behind: the package on the path, and its entry points."""
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    info = tmp_path / "site" / f"our_lab-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: our-lab\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    text = "\n".join(f"[{group}]\n" + "\n".join(f"{k} = {v}" for k, v in points.items()) for group, points in groups)
    (info / "entry_points.txt").write_text(text + "\n")
    monkeypatch.syspath_prepend(str(info.parent))
    monkeypatch.syspath_prepend(str(PLUGIN))
    plugins.cache_clear()
    yield
    plugins.cache_clear()
    for name in [m for m in sys.modules if m.split(".")[0] == "our_lab"]:
        del sys.modules[name]


def cycler_file(path: Path, capacity_mah: float) -> Path:
    """Two cycles as the laboratory's own cycler writes them."""
    t = cell_test(2, capacity_mah)
    rows = "\n".join(f"{s:.2f};{v:.4f};{i:.5f}" for s, v, i in zip(t.time_s, t.voltage_v, t.current_ma, strict=True))
    path.write_text(f"OUR-CYCLER 1\nseconds;volt;milliampere\n{rows}\n")
    return path


def test_what_is_added_stands_beside_what_is_shipped(installed):
    assert "lithium-used" in QUANTITIES
    assert "pressing_mpa" in FIELDS
    assert "manganese_share" in ALL_FILTERS
    assert "bold" in STRATEGIES
    assert "our-cycler" in [reader.name for reader in readers.all_readers()]


def test_every_addition_keeps_the_promises_of_the_shipped_ones(installed, tmp_path: Path):
    check_quantity(QUANTITIES["lithium-used"], FakeEnsemble(3), FORMULAS[:4])
    lattice = Lattice(parse_space(SPACE))
    check_filter(ALL_FILTERS["manganese_share"], lattice.mixtures(lattice.unrank(lattice.sample_ranks(20, 0))))
    check_strategy(STRATEGIES["bold"], Outlook.of(FakeEnsemble(3)), FORMULAS)
    path = cycler_file(tmp_path / "cell.our", 1.0)
    check_reader(next(r for r in readers.all_readers() if r.name == "our-cycler"), path)


@pytest.mark.parametrize("name", list(QUANTITIES.builtin))
def test_every_shipped_quantity_keeps_them_too(name: str):
    check_quantity(QUANTITIES[name], FakeEnsemble(3), FORMULAS[:4])


def test_the_threshold_of_an_added_filter_stands_beside_the_others(installed):
    filters = Filters.model_validate({"manganese_share": 0.6, "precursors": 5})
    assert filters.threshold("manganese_share") == 0.6
    assert [f.name for f in filters.active(of_species=False)][-1] == "manganese_share"
    assert Filters.model_validate(filters.model_dump()) == filters


def test_a_campaign_is_run_with_what_a_laboratory_added(installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """From the proposal to the report, with no edit in the package."""
    monkeypatch.chdir(tmp_path)
    changes = {
        "space": {**SPACE, "filters": {"manganese_share": 0.5}},
        "objectives": [{"quantity": "lithium-used", "reference": 0.3}],
        "constraints": [],
        "strategy": "bold",
        "shortlist": 20,
    }
    write_campaign(tmp_path / "ours.yaml", write_small_model(tmp_path / "small"), **changes)

    def run(*arguments: str) -> dict:
        done = CliRunner().invoke(main, [*arguments, "--format", "json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    proposals = run("propose", "--campaign", "ours.yaml")["proposals"]
    assert len(proposals) == 3
    for row in proposals:
        metals = {s: a for s, a in Composition.parse(row["composition"]).metals.items() if s != "Li"}
        assert metals.get("Mn", 0.0) / sum(metals.values()) >= 0.5 - 1e-9
        assert 0 < row["lithium_used_lower"] <= row["lithium_used_mean"]
        assert row["why"].startswith("lithium used at 20 mA/g 0.")

    current = CURRENT_MA / 20.0 * 1e3  # mg, at 20 mA/g
    cell = cycler_file(tmp_path / "cell.our", 0.22 * current)
    sample = ("--proposal", "R01-01", "--active-mass-mg", str(current), "--current", "20", "--window", "1.5", "4.8")
    made = ("--process", "pressing_mpa=300")
    found = run("ingest", "--campaign", "ours", str(cell), *sample, *made, "--no-finetune")
    assert [f["format"] for f in found["files"]] == ["our-cycler"]
    assert found["files"][0]["status"] in ("recorded", "doubtful"), found

    done = CliRunner().invoke(main, ["export", "--campaign", "ours", "all.json"])
    assert done.exit_code == 0, done.output
    assert json.loads(Path("all.json").read_text())["measurements"][0]["pressing_mpa"] == 300.0

    rows = run("rank", "--campaign", "ours", "--by", "lithium-used", "--within", "measured")["rows"]
    composition = Composition.parse(proposals[0]["composition"])
    assert [r["composition"] for r in rows] == [composition.formula]
    assert rows[0]["lithium_used_mean"] == pytest.approx(220 / composition.theoretical_capacity_mah_g, rel=0.03)
    best = run("status", "--campaign", "ours")["best"]
    assert best["lithium_used"] == rows[0]["lithium_used_mean"]

    done = CliRunner().invoke(main, ["report", "--campaign", "ours"])
    assert done.exit_code == 0, done.output
    page = Path(done.stdout.strip()).read_text()
    assert "with a lithium used at 20 mA/g of 0." in page
    assert "compare-lithium_used" in page
