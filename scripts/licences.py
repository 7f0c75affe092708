"""Check that nothing drx-screen is installed with forbids to use it as its licence (MIT) allows."""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
REFUSED = re.compile(r"\bA?GPL|Affero|General Public License|non-?commercial|proprietary|SSPL", re.IGNORECASE)
LESSER = re.compile(r"\bLGPL|Lesser General Public|or BSD|or MIT|or Apache", re.IGNORECASE)

RUN_ALONE = ("codespell",)
"""Programs that developers run beside the code; nothing here imports them, and nobody gets them with the package."""


def licence_of(package: str) -> str:
    """What a package says of its licence; empty where it says nothing."""
    known = metadata.metadata(package)
    classifiers = [c for c in known.get_all("Classifier") or [] if c.startswith("License")]
    return " ".join([known.get("License-Expression") or "", *classifiers, (known.get("License") or "")[:100]]).strip()


def main() -> int:
    """Print what is refused; 1 where something is."""
    names = [line.partition("==")[0].strip() for line in CONSTRAINTS.read_text().splitlines() if "==" in line]
    wrong = looked = 0
    for name in names:
        try:
            licence = licence_of(name)
        except metadata.PackageNotFoundError:
            continue
        looked += 1
        if name not in RUN_ALONE and REFUSED.search(licence) and not LESSER.search(licence):
            wrong += 1
            print(f"{name}: {licence}")
    print(f"Licences of {looked} packages looked at, {wrong} refused.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
