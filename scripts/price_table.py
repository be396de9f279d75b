#!/usr/bin/env python
"""Write `processing/price_table.json` anew: `scripts/price_table.py <price list> ...`.

A price list is AWS's `offers/v1.0/aws/AmazonSageMaker/current/index.json` or `index.csv`, or the one of a region. Later
files replace the regions of earlier ones.
"""

from __future__ import annotations

import json
import pathlib
import sys

from processing.pricing import Prices, read_offers

TABLE = pathlib.Path(__file__).parent.parent / "processing" / "price_table.json"


def main(files: list[str], target: pathlib.Path = TABLE) -> None:
    if not files:
        sys.exit("usage: scripts/price_table.py <price list> ...")
    regions: dict[str, Prices] = {}
    for file in files:
        regions.update(read_offers(file))
    table = {
        "source": "AWS's price list, AmazonSageMaker, usage types <region>-Processing:<instance type>, on demand.",
        "regions": {region: prices.to_json() for region, prices in sorted(regions.items())},
    }
    target.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    print(f"{target}: {sum(len(prices.usd) for prices in regions.values())} prices of {len(regions)} regions")


if __name__ == "__main__":
    main(sys.argv[1:])
