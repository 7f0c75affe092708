"""Write drxnet/data/elements.csv: atomic mass and 200-dimensional mat2vec vector of each element.

Vectors: Tshitoyan et al., Nature 571, 95 (2019), doi:10.1038/s41586-019-1335-8, as tabulated in
`matscholar-embedding.json` of ElementEmbeddings (Onwuli et al., Digital Discovery 2, 1558 (2023), MIT).
Masses: pymatgen (IUPAC).

    pip download --no-deps elementembeddings && unzip elementembeddings-*.whl
    python scripts/make_element_table.py elementembeddings/data/element_representations/matscholar-embedding.json
"""

import csv
import json
import sys
from pathlib import Path

from pymatgen.core import Element

from drxnet.composition import METALS_BY_NUMBER

TARGET = Path(__file__).parents[1] / "drxnet" / "data" / "elements.csv"


def main(source: str) -> None:
    """Reduce the table at `source` to the elements a rocksalt cathode can hold."""
    vectors = json.loads(Path(source).read_text())
    with TARGET.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["symbol", "atomic_mass", *(f"v{i}" for i in range(200))])
        for symbol in [*METALS_BY_NUMBER, "O", "F"]:
            if symbol in vectors:
                mass = float(Element(symbol).atomic_mass)
                writer.writerow(
                    [symbol, f"{mass:g}" if mass == int(mass) else repr(mass), *(f"{x:.9g}" for x in vectors[symbol])]
                )


if __name__ == "__main__":
    main(sys.argv[1])
