"""Make a release: one version in every place that states it, and the changelog's "Unreleased" under its number.

python scripts/release.py 0.3.0            # changes the files; look at them, commit, tag
python scripts/release.py --check          # says where versions differ; part of the tests
"""

from __future__ import annotations

import argparse
import datetime
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
UNRELEASED = "## Unreleased"
PLACES = {
    "pyproject.toml": re.compile(r'^version = "(.+)"$', re.MULTILINE),
    "CITATION.cff": re.compile(r"^version: (.+)$", re.MULTILINE),
}
"""File -> where it states the version; each states it once."""

RELEASED = re.compile(r"^date-released: (.+)$", re.MULTILINE)


class Refused(Exception):
    """Nothing was changed; the message says why."""


def stated(root: Path = ROOT) -> dict[str, str]:
    """Version that each file states; of the changelog, that of its newest release."""
    found = {name: _only(place, (root / name).read_text(encoding="utf-8"), name) for name, place in PLACES.items()}
    releases = re.findall(r"^## (\d+\.\d+\.\d+)", (root / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    return {**found, "CHANGELOG.md": releases[0] if releases else "none"}


def _only(place: re.Pattern[str], text: str, name: str) -> str:
    found = place.findall(text)
    if len(found) != 1:
        raise Refused(f"{name}: the version must stand in it once, by the pattern {place.pattern}. Found {len(found)}.")
    return str(found[0])


def release(version: str, day: datetime.date, root: Path = ROOT) -> None:
    """Write a version everywhere, and close the changelog's section of what is not released yet.

    Raises:
        Refused: it is no later version, or there is nothing to release.
    """
    now = stated(root)["pyproject.toml"]
    if not re.fullmatch(r"\d+\.\d+\.\d+", version) or _order(version) <= _order(now):
        raise Refused(f"A release has a later version than {now}, of three numbers. Got {version}.")
    changelog = root / "CHANGELOG.md"
    text = changelog.read_text(encoding="utf-8")
    if not _unreleased(text).strip():
        raise Refused(f"CHANGELOG.md holds nothing under {UNRELEASED!r}; say what a user notices.")
    files = {name: (root / name).read_text(encoding="utf-8") for name in PLACES}
    for name, place in PLACES.items():
        files[name] = place.sub(lambda found: found[0].replace(found[1], version), files[name])
    files["CITATION.cff"] = RELEASED.sub(f"date-released: {day.isoformat()}", files["CITATION.cff"])
    files["CHANGELOG.md"] = text.replace(UNRELEASED, f"{UNRELEASED}\n\n## {version} ({day.isoformat()})", 1)
    for name, content in files.items():
        (root / name).write_text(content, encoding="utf-8")


def _unreleased(changelog: str) -> str:
    _, _, rest = changelog.partition(UNRELEASED)
    return rest.split("\n## ", 1)[0]


def _order(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def main() -> int:
    """Release, or check; the exit code is 1 where versions differ or the release is refused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", nargs="?", help="the new one, such as 0.3.0")
    parser.add_argument("--check", action="store_true", help="only say whether all places state one version")
    given = parser.parse_args()
    try:
        if given.check or not given.version:
            found = stated()
            print("\n".join(f"{version}  {name}" for name, version in found.items()))
            return int(len(set(found.values())) > 1)
        release(given.version, datetime.datetime.now(datetime.UTC).date())
    except Refused as error:
        print(f"Refused: {error}", file=sys.stderr)
        return 1
    print(f"""Version {given.version} is written. Look at `git diff`, then:
  git commit -am "Release {given.version}" && git tag v{given.version}
  python -m build      # dist/*.whl and *.tar.gz, what `sh scripts/stranger` tried
  git push --follow-tags""")
    return 0


if __name__ == "__main__":
    sys.exit(main())
