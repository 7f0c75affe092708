"""Say whether drx-screen can be installed from wheels on each system and Python that it promises.

    python scripts/resolve.py            # asks the package index; needs uv and a network, no other machine

Prints one line for each pair, with the number of packages; those that come as source alone are named. All of those are
plain Python, which needs no compiler. The exit code is 1 where something does not resolve, or where another package
has no wheel.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
SYSTEMS = {
    "Linux x86-64": "x86_64-manylinux_2_28",
    "Linux arm64": "aarch64-manylinux_2_28",
    "macOS 14 arm64": "aarch64-apple-darwin",
    "Windows x86-64": "x86_64-pc-windows-msvc",
}
"""System -> what uv calls it."""

EXTRAS = ("fast", "server", "client", "agents", "exchange", "parquet", "postgresql", "biologic")
SOURCE_ONLY = ("access-parser", "bibtexparser", "galvani")
"""Packages of which the index has no wheel; all plain Python."""


def pythons() -> list[str]:
    """Versions of Python that the project promises."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = (re.fullmatch(r"Programming Language :: Python :: (\d\.\d+)", c) for c in project["classifiers"])
    return [match[1] for match in found if match]


def resolved(system: str, python: str, extras: Sequence[str], *, pinned: bool) -> tuple[int, list[str], str]:
    """Resolve for a system and a Python.

    Returns:
        Number of packages; those that have no wheel; what went wrong, empty where nothing did.
    """
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    source: list[str] = []
    command = [uv, "pip", "compile", str(ROOT / "pyproject.toml"), "--quiet", "--no-header", "--no-annotate"]
    command += ["--python-platform", SYSTEMS[system], "--python-version", python, "--only-binary", ":all:"]
    command += [word for extra in extras for word in ("--extra", extra)]
    command += ["--constraint", str(ROOT / "constraints.txt")] if pinned else []
    environment = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": "14.0"}  # torch has wheels from macOS 14 on
    while True:
        allowed = [word for package in source for word in ("--no-binary", package)]
        done = subprocess.run([*command, *allowed], capture_output=True, text=True, check=False, env=environment)
        if done.returncode == 0:
            return done.stdout.count("=="), source, ""
        missing = re.search(r"([\w.-]+)(?:==\S+)? has no usable wheels", done.stderr)
        if missing is None or missing[1] in source or missing[1] not in SOURCE_ONLY:
            return 0, source, " ".join(done.stderr.split())
        source.append(missing[1])


def main() -> int:
    """Print the table."""
    wrong = 0
    print(f"With the extras {', '.join(EXTRAS)}; newest: what the index has today; pinned: constraints.txt.")
    for system in SYSTEMS:
        for python in pythons():
            for pinned in (False, True):
                count, source, error = resolved(system, python, EXTRAS, pinned=pinned)
                wrong += bool(error)
                which = "pinned" if pinned else "newest"
                said = error or f"{count} packages; as source: {', '.join(sorted(source)) or 'none'}"
                print(f"{system:15} Python {python:5} {which}  {said}", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
