"""Try each fault that the first version had, through the command line of a checkout.

Prints of each whether it is there; on a checkout of the first version (eb8320e) all are, on this one none is. The test
that keeps it out is named beside it::

    python tests/attack/faults.py CHECKOUT FOLDER [--published DIR] [FAULT ...]
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

from ledgers import FIRST, write_discharge, write_stub_model

STARTS = "import sys; sys.path[:0] = [{!r}]; from campaigns.cli import main; main()"
SPACE = (
    "space: {step: 1/20, lithium: [1.15, 1.25], fluorine: [0, 0.1], species: [Mn2+, Mn3+, Ti4+], k_elements: [2, 3]}\n"
)
DEFECT = "defect of drx-screen"


class Place:
    """A folder of its own for one fault, and the command line of the checkout."""

    def __init__(self, checkout: Path, folder: Path, published: Path | None) -> None:
        self.checkout, self.folder, self.published = checkout, folder, published
        folder.mkdir(parents=True)
        self.environment = {**os.environ, "DRXNET_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}

    def run(self, *arguments: object, seconds: float = 120) -> tuple[int, str]:
        """Exit code and output of a command; -1 where it did not end."""
        program = [sys.executable, "-W", "ignore", "-c", STARTS.format(str(self.checkout)), *map(str, arguments)]
        try:
            done = subprocess.run(
                program, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=seconds
            )
        except subprocess.TimeoutExpired:
            return -1, "did not end"
        return done.returncode, done.stdout + done.stderr

    def write(self, name: str, text: str) -> Path:
        """Write a file."""
        (self.folder / name).write_text(text)
        return self.folder / name

    def model(self, name: str, **card: object) -> Path:
        """A model whose card says something else."""
        folder = write_stub_model(self.folder / name)
        content = json.loads((folder / "model.json").read_text())
        content = {key: value for key, value in content.items() if key != "process"} | card
        (folder / "model.json").write_text(json.dumps(content))
        return folder

    def campaign(self) -> None:
        """A campaign with one measurement."""
        self.write("t.yaml", f"{SPACE}batch_size: 2\nworkers: 0\n")
        write_discharge(self.folder / "one.json", FIRST, 240.0)
        for line in ("init demo --from t.yaml", "ingest --campaign demo one.json --no-finetune"):
            code, said = self.run(*line.split())
            if code:
                raise SystemExit(f"{line}: {said}")

    def retracted(self, reason: str) -> None:
        """A campaign whose measurement is retracted for a reason."""
        self.campaign()
        self.run("retract", "--campaign", "demo", "M0001", "--reason", reason)


def precious_folder(p: Place) -> bool:
    (p.folder / "precious").mkdir()
    p.write("precious/thesis.txt", "years")
    p.run("models", "import", p.published or p.model("m"), "--name", p.folder / "precious")
    return not (p.folder / "precious" / "thesis.txt").exists()


def all_models(p: Place) -> bool:
    p.run("models", "import", p.published or p.model("m"), "--name", "mine")
    if not (p.folder / "home" / "models" / "mine" / "model.json").exists():
        raise SystemExit("no model was imported: give --published")
    p.run("models", "import", p.published or p.model("n"), "--name", ".")
    return not (p.folder / "home" / "models" / "mine" / "model.json").exists()


def path_in_a_card(p: Place) -> bool:
    elsewhere = Path(f"/tmp/drx{os.getpid() % 10_000}")  # twelve characters count
    shutil.rmtree(elsewhere, ignore_errors=True)
    p.write("t.yaml", f"{SPACE}model: {p.model('n')}\n")
    p.run("init", "demo", "--from", "t.yaml")
    written = p.folder / "demo" / "campaign.yaml"
    written.write_text(written.read_text().replace(f"{p.folder}/n", str(p.model("m", weights_sha256=str(elsewhere)))))
    p.run("status", "--campaign", "demo")
    found = elsewhere.exists()
    shutil.rmtree(elsewhere, ignore_errors=True)
    return found


def link_in_a_model(p: Place) -> bool:
    folder = p.model("m")
    (folder / "weights.safetensors").rename(p.folder / "secret")
    (folder / "weights.safetensors").symlink_to(p.folder / "secret")
    p.write("t.yaml", f"{SPACE}model: m\n")
    return p.run("init", "demo", "--from", "t.yaml")[0] == 0


def members(p: Place) -> bool:
    code, said = p.run("predict", FIRST, "--model", p.model("m", members=200_000_000))
    return code in (-1, 1) or DEFECT in said or "allocate" in said


def card_format(p: Place) -> bool:
    code, said = p.run("models", "show", p.model("m", format="one"))
    return code == 1 or DEFECT in said


def markup_ends_the_log(p: Place) -> bool:
    p.retracted("bad [/red]")
    return p.run("log", "--campaign", "demo")[0] != 0


def markup_vanishes(p: Place) -> bool:
    p.retracted("weighed again [see notebook 12]")
    return "[see notebook 12]" not in p.run("log", "--campaign", "demo")[1].replace("\n", " ")


def tampering(p: Place) -> bool:
    p.campaign()
    with closing(sqlite3.connect(p.folder / "demo" / "ledger.sqlite")) as file, file:
        for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            file.execute(f"DROP TRIGGER {name}")
        file.execute("UPDATE measurements SET capacity_mah_g = 999999")
    return p.run("status", "--campaign", "demo")[0] == 0


def no_backup(p: Place) -> bool:
    p.campaign()
    return p.run("backup", "--campaign", "demo", "a.zip")[0] != 0 or p.run("restore", "a.zip", "back")[0] != 0


def export_one_way(p: Place) -> bool:
    p.campaign()
    p.run("export", "--campaign", "demo", "a.json")
    return p.run("init", "twin", "--from", "a.json")[0] != 0


def bomb(p: Place) -> bool:
    line = b"20,1.5,4.8,240.1,1," + FIRST.encode() + b"\n"
    with gzip.open(p.folder / "bomb.csv.gz", "wb", compresslevel=9) as file:
        file.write(b"current_ma_g,v_low,v_high,capacity_mah_g,cycle,composition\n")
        for _ in range(400):
            file.write(line * 25_000)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    p.run("validate", "bomb.csv.gz", seconds=60)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss > max(before, 1 << 20)  # KiB


def deep_yaml(p: Place) -> bool:
    p.write("t.yaml", "space: " + "[" * 20_000)
    return p.run("check", "--campaign", "t.yaml", seconds=40)[0] in (-1, 1, -11)


def huge_cycle(p: Place) -> bool:
    p.campaign()
    p.write("a.csv", f"composition,current_ma_g,v_low,v_high,capacity_mah_g,cycle\n{FIRST},20,1.5,4.8,240,{10**20}\n")
    code, said = p.run("ingest", "--campaign", "demo", "a.csv", "--no-finetune")
    return code in (0, 1) or DEFECT in said


def no_read_only(p: Place) -> bool:
    p.campaign()
    return p.run("--read-only", "status", "--campaign", "demo")[0] != 0


def report_starts(p: Place) -> bool:
    p.write("t.yaml", SPACE)
    p.run("report", "--campaign", "t.yaml")
    return (p.folder / "t").exists()


def formula_in_a_csv(p: Place) -> bool:
    p.retracted('=HYPERLINK("http://x")')
    p.run("export", "--campaign", "demo", "a.csv", "--withdrawn")
    text = (p.folder / "a.csv").read_text()
    return ",=HYPERLINK" in text or ',"=HYPERLINK' in text


def measured_to_accepted(p: Place) -> bool:
    p.campaign()
    program = (
        f"import sys; sys.path[:0] = [{str(p.checkout)!r}]\n"
        "from campaigns import Campaign\nc = Campaign.open('demo')\n"
        "state = c.state().proposals[0]\n"
        "with c.ledger.write('mark') as entry:\n"
        "    entry.set_state(state.proposal_id, type(state.state)('accepted'), 'x')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=p.folder, env=p.environment, capture_output=True)
    return done.returncode == 0


def closed_pipe(p: Place) -> bool:
    program = [sys.executable, "-W", "ignore", "-c", STARTS.format(str(p.checkout)), "recipe", *[FIRST] * 20]
    running = subprocess.Popen(program, cwd=p.folder, env=p.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdout is not None
    running.stdout.read(1)
    running.stdout.close()
    said = running.stderr.read() if running.stderr else b""
    return running.wait() == 1 or bool(said.strip())


IN_CHECKPOINT, IN_BOUNDS, IN_HOSTILE = (
    "tests/drxnet/test_checkpoint.py::",
    "tests/campaigns/intake/test_bounds.py::",
    "tests/campaigns/cli/test_hostile_text.py::",
)
FAULTS: dict[str, tuple[Callable[[Place], bool], str]] = {
    "an import replaces a folder of something else": (
        precious_folder,
        f"{IN_CHECKPOINT}test_a_folder_that_holds_anything_else_is_never_replaced",
    ),
    "an import named . replaces all models": (
        all_models,
        f"{IN_CHECKPOINT}test_a_model_is_imported_under_a_plain_name_only",
    ),
    "a path in a model card is written to": (
        path_in_a_card,
        f"{IN_CHECKPOINT}test_a_card_whose_field_is_not_what_it_must_be_is_a_sentence",
    ),
    "a link in a model is followed": (link_in_a_model, f"{IN_CHECKPOINT}test_what_is_no_regular_file_is_not_copied"),
    "members ask for terabytes": (members, f"{IN_CHECKPOINT}test_memory_is_taken_only_for_what_the_file_holds"),
    "a format that is no number": (
        card_format,
        f"{IN_CHECKPOINT}test_a_card_whose_field_is_not_what_it_must_be_is_a_sentence",
    ),
    "markup in a reason ends the log": (markup_ends_the_log, f"{IN_HOSTILE}test_reasons_are_shown_as_they_were_given"),
    "brackets vanish from a reason": (markup_vanishes, f"{IN_HOSTILE}test_reasons_are_shown_as_they_were_given"),
    "a row changed by SQL is believed": (
        tampering,
        "tests/campaigns/test_verification.py::test_a_capacity_that_was_written_by_hand_is_refused_everywhere",
    ),
    "no backup": (no_backup, "tests/campaigns/test_backup.py::test_what_is_in_the_write_ahead_file_is_in_the_backup"),
    "an export cannot be read back": (
        export_one_way,
        "tests/campaigns/test_backup.py::test_an_export_as_json_is_rebuilt_exactly",
    ),
    "a small gz fills the memory": (bomb, f"{IN_BOUNDS}test_a_gzip_bomb_is_refused_before_it_fills_the_memory"),
    "deep YAML is a defect": (
        deep_yaml,
        "tests/drxnet/test_yaml_files.py::test_what_is_no_configuration_is_refused_at_once",
    ),
    "a cycle of 10^20 is a defect": (huge_cycle, f"{IN_BOUNDS}test_a_cycle_beyond_any_cell_is_refused_in_a_table"),
    "reading needs write access": (no_read_only, "tests/campaigns/cli/test_read_only.py::test_reading_changes_nothing"),
    "a report starts a campaign": (report_starts, "tests/campaigns/cli/test_read_only.py::test_reading_starts_nothing"),
    "a formula in an exported csv": (
        formula_in_a_csv,
        f"{IN_HOSTILE}test_exported_text_is_no_formula_and_json_is_exact",
    ),
    "measured becomes accepted": (
        measured_to_accepted,
        "tests/campaigns/ledger/test_ledger.py::test_measured_is_left_only_by_a_withdrawal",
    ),
    "a reader that leaves is an error": (closed_pipe, f"{IN_HOSTILE}test_a_reader_that_leaves_is_no_error"),
}
"""Each fault: whether it is there, and the test that keeps it out."""


def start(given: list[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("checkout", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--published", type=Path, help="The five published files: the first version imports no others.")
    parser.add_argument("faults", nargs="*", metavar="FAULT")
    asked = parser.parse_intermixed_args(given)
    there = 0
    for number, (name, (probe, test)) in enumerate(FAULTS.items()):
        if asked.faults and name not in asked.faults:
            continue
        place = asked.folder.absolute() / str(number)
        shutil.rmtree(place, ignore_errors=True)
        found = probe(Place(asked.checkout.absolute(), place, asked.published))
        there += found
        print(json.dumps({"fault": name, "there": found, "test": test}), flush=True)
    print(json.dumps({"faults": len(asked.faults or FAULTS), "there": there}))
    return 1 if there else 0


if __name__ == "__main__":
    raise SystemExit(start(sys.argv[1:]))
