"""Prepare the Palmer penguins for training: clean, join, aggregate, split.

An ordinary script with the standard library only. It does not depend on SageMaker: it reads directories and writes
directories, and its arguments name them.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

MEASURES = {
    "Culmen Length (mm)": "bill_length_mm",
    "Culmen Depth (mm)": "bill_depth_mm",
    "Flipper Length (mm)": "flipper_length_mm",
    "Body Mass (g)": "body_mass_g",
}
Row = dict[str, str]


def read(directory: Path, pattern: str) -> Iterator[Row]:
    """Yield the rows of all CSV files in a directory that match."""
    for path in sorted(directory.glob(pattern)):
        with path.open(newline="", encoding="utf-8") as file:
            yield from csv.DictReader(file)


def clean(rows: Iterable[Row], dropped: Counter[str]) -> Iterator[Row]:
    """Give the columns short names, and drop the rows without a measurement or the sex."""
    for row in rows:
        missing = next((name for name in (*MEASURES, "Sex") if row[name] in {"", "NA", "."}), None)
        if missing:
            dropped[missing] += 1
            continue
        species = row["Species"].split()[0]
        yield {
            "bird": f"{species}-{row['Individual ID']}",
            "species": species,
            "island": row["Island"],
            "year": row["Date Egg"][:4],
            "sex": row["Sex"].lower(),
            **{short: row[name] for name, short in MEASURES.items()},
        }


def is_for_test(bird: str, share: float) -> bool:
    """Return whether a bird belongs to the test set: the same on every run, with all rows of one bird on one side."""
    digest = hashlib.sha256(bird.encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def summarise(rows: list[Row]) -> list[dict[str, object]]:
    """Return one line per species: the number of rows, the islands, and the mean of each measure."""
    by_species: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_species[row["species"]].append(row)
    return [
        {
            "species": species,
            "rows": len(members),
            "islands": sorted({row["island"] for row in members}),
            **{name: round(statistics.fmean(float(row[name]) for row in members), 1) for name in MEASURES.values()},
        }
        for species, members in sorted(by_species.items())
    ]


def write(path: Path, rows: list[Row]) -> None:
    """Write rows as a CSV file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(f"wrote {path.name}: {len(rows)} rows", flush=True)


def main() -> None:
    """Do the whole preparation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--penguins", type=Path, required=True, help="directory with penguins*.csv")
    parser.add_argument("--islands", type=Path, required=True, help="directory with islands*.csv")
    parser.add_argument("--datasets", type=Path, required=True, help="directory for train.csv and test.csv")
    parser.add_argument("--report", type=Path, required=True, help="directory for report.json")
    parser.add_argument("--test-share", type=float, default=0.2, help="the test set's share of the birds")
    options = parser.parse_args()

    raw = list(read(options.penguins, "penguins*.csv"))
    print(f"read {len(raw)} rows", flush=True)

    dropped: Counter[str] = Counter()
    rows = list(clean(raw, dropped))
    for column, count in dropped.most_common():
        print(f"dropped {count} rows without {column}", flush=True)

    islands = {row["island"]: row for row in read(options.islands, "islands*.csv")}
    rows = [row | islands[row["island"]] for row in rows]
    print(f"joined {len(rows)} rows with {len(islands)} islands", flush=True)

    train = [row for row in rows if not is_for_test(row["bird"], options.test_share)]
    test = [row for row in rows if is_for_test(row["bird"], options.test_share)]
    write(options.datasets / "train.csv", train)
    write(options.datasets / "test.csv", test)

    report = {
        "rows": {"read": len(raw), "dropped": sum(dropped.values()), "train": len(train), "test": len(test)},
        "species": summarise(rows),
    }
    (options.report / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print("wrote report.json", flush=True)


if __name__ == "__main__":
    main()
