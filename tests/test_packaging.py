"""What is shipped: the wheel in an empty environment, the release, and the files that a host or a container reads."""

from __future__ import annotations

import datetime
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SHIPPED = ("drxnet", "screening", "campaigns", "configs")
COPIED = ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "CHANGELOG.md", "CITATION.cff", "constraints.txt")
PATHS = [path for path in sys.path if path.endswith("site-packages")]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# -- the wheel -------------------------------------------------------------------------------------------------


def run(*command: str | Path, cwd: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "DRX"))}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is packed, so that building leaves nothing in the checkout."""
    for tool in ("build", "setuptools"):
        pytest.importorskip(tool, reason=f"{tool} is not installed (pip install '.[dev]')")
    folder = tmp_path_factory.mktemp("sources")
    for package in SHIPPED:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in COPIED:
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution as a packager builds it."""
    target = tmp_path_factory.mktemp("dist")
    build = "import sys; sys.path += sys.argv.pop().split(chr(10)); from build.__main__ import main; main(sys.argv[1:])"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            build,
            "--no-isolation",
            "--skip-dependency-check",
            "-o",
            target,
            sources,
            "\n".join(PATHS),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(PATHS)},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert len(list(target.glob("drx_screen-*.tar.gz"))) == 1
    (built,) = target.glob("drx_screen-*.whl")
    return built


def environment(folder: Path, install: Callable[[Path], None]) -> Path:
    """An environment in which only drx-screen is installed; what it needs is looked up where the tests have it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "zz_needed.pth").write_text("\n".join(PATHS), encoding="utf-8")  # its own .pth files are not looked at
    install(folder / "bin" / "python")
    return folder / "bin"


def pip_install(python: Path, *what: str | Path) -> None:
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index"]
    done = subprocess.run([*pip, "--no-build-isolation", *what], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs of an environment with the wheel."""
    return environment(tmp_path_factory.mktemp("empty") / "venv", lambda python: pip_install(python, wheel))


def test_the_wheel_holds_the_packages_and_their_data_alone(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == set(SHIPPED)
    wanted = [
        path.relative_to(ROOT).as_posix()
        for package in SHIPPED
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    assert sorted(set(wanted) - set(names)) == []


def test_the_wheel_works_in_an_empty_environment_and_folder(installed: Path, tmp_path: Path) -> None:
    assert PROJECT["project"]["version"] in run(installed / "drx-screen", "--version", cwd=tmp_path)
    where = run(installed / "python", "-c", "import drxnet; print(drxnet.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent)
    asked = ("predict", "Li1.2Mn0.4Ti0.4O2", "--format", "json")
    (row,) = json.loads(run(installed / "drx-screen", *asked, cwd=tmp_path))
    assert row["capacity_mah_g_mean"] > 100
    assert list(tmp_path.iterdir()) == []


COLLIDING = """
import configs, json
from campaigns.spec import read_spec
from drxnet.training import load_options
from screening.space import load_space
mine = getattr(configs, "MINE", None)
print(json.dumps([mine, read_spec("tiny").space, load_space("tiny").name, load_options("default").members]))
"""


@pytest.mark.parametrize("own", ["package", "folder"])
def test_a_users_own_configs_is_theirs_and_the_shipped_files_are_found(
    installed: Path, tmp_path: Path, own: str
) -> None:
    """`import configs` gives the package beside the script; an empty folder of that name gives way to ours."""
    (tmp_path / "configs").mkdir()
    if own == "package":
        (tmp_path / "configs" / "__init__.py").write_text("MINE = 'of the user'\n")
    (tmp_path / "script.py").write_text(COLLIDING)
    mine, *ours = json.loads(run(installed / "python", "script.py", cwd=tmp_path))
    assert mine == ("of the user" if own == "package" else None)
    assert ours == ["tiny", "tiny", 5]


def test_no_module_finds_shipped_files_by_the_name_configs() -> None:
    """Which package of that name Python imports is the user's choice."""
    wanted = re.compile(r"^\s*(from configs\b|import configs\b)|files\(.configs", re.MULTILINE)
    found = [p for name in SHIPPED[:3] for p in (ROOT / name).rglob("*.py") if wanted.search(p.read_text("utf-8"))]
    assert found == []


def test_an_empty_folder_of_our_name_hides_no_editable_install(sources: Path, tmp_path: Path) -> None:
    programs = environment(tmp_path / "venv", lambda python: pip_install(python, "-e", sources))
    beside = tmp_path / "work"
    (beside / "drxnet").mkdir(parents=True)
    (beside / "script.py").write_text("import drxnet; print(drxnet.__file__)")
    assert Path(run(programs / "python", "script.py", cwd=beside).strip()).is_relative_to(sources)


# -- the release -----------------------------------------------------------------------------------------------


def test_every_place_states_one_version() -> None:
    found = script("release").stated(ROOT)
    assert len(set(found.values())) == 1, found


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("pyproject.toml", "CITATION.cff"):
        shutil.copy(ROOT / name, tmp_path / name)
    version = PROJECT["project"]["version"]
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n## Unreleased\n\n* A line.\n\n## {version} (2026-01-01)\n")
    return tmp_path


def test_a_release_writes_one_version_everywhere_and_closes_the_changelog(checkout: Path) -> None:
    release = script("release")
    release.release("9.1.0", datetime.date(2030, 1, 2), checkout)
    assert set(release.stated(checkout).values()) == {"9.1.0"}
    changelog = (checkout / "CHANGELOG.md").read_text()
    assert "## Unreleased\n\n## 9.1.0 (2030-01-02)\n\n* A line.\n" in changelog
    assert "date-released: 2030-01-02" in (checkout / "CITATION.cff").read_text()
    with pytest.raises(release.Refused, match="nothing under '## Unreleased'"):
        release.release("9.2.0", datetime.date(2030, 1, 3), checkout)


@pytest.mark.parametrize("version", ["0.1.0", "9", "9.0.0rc1", "v9.0.0"])
def test_a_release_that_is_no_later_version_changes_nothing(checkout: Path, version: str) -> None:
    release = script("release")
    before = {path.name: path.read_text() for path in checkout.iterdir()}
    with pytest.raises(release.Refused, match="has a later version than"):
        release.release(version, datetime.date(2030, 1, 2), checkout)
    assert {path.name: path.read_text() for path in checkout.iterdir()} == before


# -- what hosts and containers read ----------------------------------------------------------------------------


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_citation_names_the_software_and_the_paper() -> None:
    citation = yaml.safe_load(read("CITATION.cff"))
    assert {"cff-version", "message", "title", "authors", "version", "date-released", "license"} <= set(citation)
    assert citation["license"] == PROJECT["project"]["license"]
    (paper,) = citation["references"]
    assert paper["doi"] == "10.1016/j.joule.2024.03.010"
    assert [author["family-names"] for author in paper["authors"]] == ["Zhong", "Deng", "He", "Lun", "Ceder"]


def test_the_hooks_before_a_commit_are_the_checks_of_the_project() -> None:
    (local,) = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    assert all(hook["language"] == "system" and not hook["pass_filenames"] for hook in local["hooks"])
    checks = [line.strip() for line in read("scripts/check").splitlines() if line.startswith(".venv/bin/")]
    assert [hook["entry"] for hook in local["hooks"]] == checks


def test_issue_forms_ask_for_what_a_fix_needs() -> None:
    forms = {
        path.stem: yaml.safe_load(path.read_text("utf-8")) for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")
    }
    del forms["config"]
    assert set(forms) == {"bug", "cycler_file", "feature"}
    for form in forms.values():
        names = [field["id"] for field in form["body"]]
        assert len(set(names)) == len(names)
        assert any(field.get("validations", {}).get("required") for field in form["body"])
    assert "drx-screen --version" in str(forms["bug"])


def instructions() -> list[tuple[str, str]]:
    lines = re.sub(r"\\\n\s*", " ", read("Dockerfile")).splitlines()
    return [tuple(line.split(" ", 1)) for line in lines if line.strip() and not line.startswith("#")]  # type: ignore[misc]


def test_the_image_is_slim_and_runs_as_nobody_in_particular_on_a_cpu() -> None:
    """Its promises; hadolint, where it is installed, knows more."""
    steps = instructions()
    assert all("-slim" in argument for word, argument in steps if word == "FROM")
    user = [argument for word, argument in steps if word == "USER"]
    assert user[-1] == "1000"
    last_of = {word: i for i, (word, _) in enumerate(steps)}
    assert last_of["RUN"] < last_of["USER"] < last_of["ENTRYPOINT"]
    runs = " ".join(argument for word, argument in steps if word == "RUN")
    assert "whl/cpu" in runs
    assert "-c /opt/constraints.txt" in runs
    copied = [source for word, argument in steps if word == "COPY" for source in argument.split()[:-1]]
    ours = [source for source in copied if not source.startswith(("--", "/"))]
    assert [source for source in ours if not (ROOT / source).exists()] == []
    assert set(SHIPPED) <= set(ours)
    allowed = {line[1:] for line in read(".dockerignore").splitlines() if line.startswith("!")}
    assert set(ours) <= allowed
    if hadolint := shutil.which("hadolint"):
        linted = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
        assert linted.stdout == ""


@pytest.mark.slow
@pytest.mark.needs("docker")
def test_the_image_is_built_and_answers(tmp_path: Path) -> None:
    docker = "docker"
    subprocess.run([docker, "build", "-q", "-t", "drx-screen:test", ROOT], check=True)
    said = run(docker, "run", "--rm", "drx-screen:test", "--version", cwd=tmp_path)
    assert PROJECT["project"]["version"] in said
    assert run(docker, "run", "--rm", "--entrypoint", "id", "drx-screen:test", "-u", cwd=tmp_path).strip() == "1000"


def test_the_conda_environment_takes_a_python_and_extras_that_there_are() -> None:
    wanted = yaml.safe_load(read("environment.yml"))
    conda = [line for line in wanted["dependencies"] if isinstance(line, str)]
    (pip,) = [line["pip"] for line in wanted["dependencies"] if isinstance(line, dict)]
    (python,) = [line.partition("=")[2] for line in conda if line.startswith("python=")]
    assert f"Programming Language :: Python :: {python}" in PROJECT["project"]["classifiers"]
    assert "pip" in conda
    assert pip[0] == "-c constraints.txt"
    extras = re.fullmatch(r"\.\[(.+)\]", pip[1])
    assert extras is not None
    assert set(extras[1].split(",")) <= set(PROJECT["project"]["optional-dependencies"])


def test_the_interpreter_of_the_tests_is_one_that_is_promised() -> None:
    running = sysconfig.get_python_version()
    assert f"Programming Language :: Python :: {running}" in PROJECT["project"]["classifiers"]


# -- other systems and Pythons ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_everything_resolves_from_wheels_on_every_system_and_python_that_is_promised() -> None:
    resolve = script("resolve")
    pytest.importorskip("uv", reason="uv is not installed (pip install '.[dev]')")
    assert resolve.pythons() == ["3.11", "3.12", "3.13"]
    for system in resolve.SYSTEMS:
        for python in resolve.pythons():
            count, source, error = resolve.resolved(system, python, resolve.EXTRAS, pinned=True)
            assert (error, set(source) <= set(resolve.SOURCE_ONLY)) == ("", True), (system, python)
            assert count > 50


def test_every_extra_for_users_is_resolved() -> None:
    inner = {"benchmarks", "triton", "test", "docs", "dev", "attack", "mutation"}
    assert set(script("resolve").EXTRAS) == set(PROJECT["project"]["optional-dependencies"]) - inner
