"""Write the tutorials that ship as notebooks, without outputs, from ``docs/tutorials/*.py``."""

from __future__ import annotations

from pathlib import Path

import jupytext

ROOT = Path(__file__).parents[1]
SOURCES, TARGET = ROOT / "docs" / "tutorials", ROOT / "campaigns" / "tutorials"


def notebooks() -> dict[Path, str]:
    """Content of every notebook; the same source gives the same bytes."""
    made = {}
    for source in sorted(SOURCES.glob("*.py")):
        notebook = jupytext.read(source)
        for number, cell in enumerate(notebook.cells, 1):
            cell.id = f"{source.stem}-{number}"
        notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
        made[TARGET / f"{source.stem}.ipynb"] = jupytext.writes(notebook, fmt="ipynb")
    return made


if __name__ == "__main__":
    TARGET.mkdir(exist_ok=True)
    for path, content in notebooks().items():
        path.write_text(content, encoding="utf-8")
