"""The hourly prices of instances: those of the package's table, and AWS's own on request.

`price_table.json` has the prices that come with the package, with their source and their day. `scripts/price_table.py`
makes it from AWS's price list. AWS changes prices: `refresh` reads them from AWS into the cache folder, and `load` from
a price list that was downloaded. Nothing else fetches prices, and a price that is not known is reported as unknown.
"""

from __future__ import annotations

import csv
import functools
import itertools
import json
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TextIO

import attrs

from processing._utils import cache_home, write_whole
from processing._utils.validation import PATH, TEXT, require, with_attributes
from processing.aws.credentials import explained_credentials
from processing.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from processing._utils import StrPath

logger = logging.getLogger(__name__)

# The price list API exists in a few regions only. Each of them has the prices of all regions.
_API_REGION = "us-east-1"
_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-\d+")


@attrs.frozen
class Price:
    """The on-demand price of one instance of a processing job, without storage and taxes.

    Args:
        usd: US dollars an hour.
        as_of: the day of the price list, such as `2026-07-30`.
    """

    usd: float
    as_of: str

    def __str__(self) -> str:
        return f"{self.usd:g} USD an hour (as of {self.as_of})"


class Prices(NamedTuple):
    """The prices of one region.

    Attributes:
        as_of: the day of the price list.
        usd: US dollars an hour by instance type.
    """

    as_of: str
    usd: Mapping[str, float]

    def with_entry(self, entry: Mapping[str, Any], published: str) -> Prices:
        """Return the prices with that of an entry of the price list, if the entry is about processing jobs."""
        instance_type, usd = _price_of(entry)
        if instance_type is None or usd is None:
            return self
        dearest = max(usd, self.usd.get(instance_type, 0.0))
        return Prices(max(self.as_of, published[:10]), {**self.usd, instance_type: dearest})

    def to_json(self) -> dict[str, Any]:
        """Return the form of the files with prices."""
        return {"as_of": self.as_of, "usd": dict(sorted(self.usd.items()))}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Prices:
        """Return the prices of such a form."""
        return cls(str(value["as_of"]), {str(name): float(usd) for name, usd in value["usd"].items()})


_NOTHING: Final = Prices("", {})


def hourly_price(instance_type: str, region: str) -> Price | None:
    """Return the hourly price of an instance type in a region, without a call. Return None if it is not known.

    The prices that `refresh` or `load` has read have priority over those that come with the package.

    Args:
        instance_type: the instance type, such as `ml.m5.xlarge`.
        region: the AWS region, such as `eu-central-1`.
    """
    require("instance_type", instance_type, TEXT)
    require("region", region, TEXT)
    for as_of, usd in (_cached(region), _shipped().get(region, _NOTHING)):
        if instance_type in usd:
            return Price(usd[instance_type], as_of)
    return None


def refresh(region: str, session: Any = None) -> int:
    """Read the prices of a region's instances from AWS into the cache folder, and return their number.

    This takes a few calls of GetProducts (`pricing:GetProducts`), which are free of charge. The folder is
    PROCESSING_CACHE_HOME, else the user's cache folder.

    Args:
        region: the AWS region, such as `eu-central-1`.
        session: a `boto3.Session` or a `processing.Session` with the credentials to use; by default a new
            `boto3.Session`.

    Raises:
        CredentialsError: the credentials are missing, expired, refused or unusable.
        ConfigurationError: AWS lists no prices in US dollars for the region.
        botocore.exceptions.ClientError: AWS refused the call.
        OSError: the cache folder cannot be written.
    """
    if not _REGION.fullmatch(str(region)):
        raise ConfigurationError(f"region: must be the name of an AWS region such as 'eu-central-1', not {region!r}")
    require("session", session, with_attributes("a boto3.Session or a processing.Session", "client"), optional=True)
    prices = Prices("", {})
    with explained_credentials(lambda: getattr(session, "boto_session", session)):
        for entry in _price_list(_pricing_client(session), region):
            prices = prices.with_entry(entry, str(entry.get("publicationDate", "")))
    if not prices.usd:
        raise ConfigurationError(f"region: AWS lists no prices of processing jobs in US dollars for {region!r}")
    _store(region, prices)
    return len(prices.usd)


def load(path: StrPath) -> int:
    """Read the prices of a downloaded price list into the cache folder, and return their number.

    AWS publishes the list of all regions as `offers/v1.0/aws/AmazonSageMaker/current/index.json` and `index.csv` on its
    price list host, and smaller ones for each region. No credentials are needed to download them. The folder is
    PROCESSING_CACHE_HOME, else the user's cache folder.

    Args:
        path: the downloaded file, in AWS's JSON or CSV format.

    Raises:
        ConfigurationError: the file cannot be read, is not a price list, or has no prices of processing jobs in US
            dollars.
        OSError: the cache folder cannot be written.
    """
    found = read_offers(path)
    for region, prices in found.items():
        _store(region, prices)
    return sum(len(prices.usd) for prices in found.values())


def read_offers(path: StrPath) -> dict[str, Prices]:
    """Return the prices in a price list of AWS's, by region.

    Args:
        path: the file.

    Raises:
        ConfigurationError: the file cannot be read, is not a price list, or has no prices of processing jobs in US
            dollars.
    """
    require("path", path, PATH)
    found: dict[str, Prices] = {}
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            is_json = file.read(1) == "{"
            file.seek(0)
            for region, published, entry in _json_offers(file) if is_json else _csv_offers(file):
                if _REGION.fullmatch(region):
                    found[region] = found.get(region, Prices("", {})).with_entry(entry, published)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, csv.Error) as error:
        raise ConfigurationError(f"path: {os.fspath(path)} is not a price list of AWS's: {error}") from error
    found = {region: prices for region, prices in sorted(found.items()) if prices.usd}
    if not found:
        raise ConfigurationError(f"path: {os.fspath(path)} has no prices of processing jobs in US dollars")
    return found


def _json_offers(file: TextIO) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield the region, the day and the entry of each product, in the form of GetProducts."""
    offers = json.load(file)
    published, terms = str(offers["publicationDate"]), offers["terms"].get("OnDemand", {})
    for sku, product in offers["products"].items():
        entry = {"product": product, "terms": {"OnDemand": terms.get(sku, {})}}
        yield product.get("attributes", {}).get("regionCode", ""), published, entry


def _csv_offers(file: TextIO) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield the same of a file in CSV: five rows about it, then the names of the columns, then a row for each price."""
    rows = csv.reader(file)
    about = {row[0]: row[1] for row in itertools.islice(rows, 5)}
    published = about["Publication Date"]
    # AWS's lists differ in the spelling of columns: usageType and Usage Type.
    names = [name.replace(" ", "").lower() for name in next(rows, [])]
    for row in rows:
        offer = dict(zip(names, row, strict=True))
        if offer["termtype"] == "OnDemand":
            dimension = {"unit": offer["unit"], "pricePerUnit": {offer["currency"]: offer["priceperunit"]}}
            product = {"attributes": {"usagetype": offer["usagetype"]}}
            terms = {"OnDemand": {"": {"priceDimensions": {"": dimension}}}}
            yield offer["regioncode"], published, {"product": product, "terms": terms}


def _pricing_client(session: Any) -> Any:
    if session is None:
        import boto3

        session = boto3.Session()
    return getattr(session, "boto_session", session).client("pricing", region_name=_API_REGION)


def _price_list(client: Any, region: str) -> Iterator[Mapping[str, Any]]:
    filters = [
        {"Type": "TERM_MATCH", "Field": "regionCode", "Value": region},
        {"Type": "TERM_MATCH", "Field": "component", "Value": "Processing"},
    ]
    pages = client.get_paginator("get_products").paginate(ServiceCode="AmazonSageMaker", Filters=filters)
    for page in pages:
        yield from map(json.loads, page["PriceList"])


def _price_of(entry: Mapping[str, Any]) -> tuple[str | None, float | None]:
    """Return an entry's instance type and its highest hourly price. Either is None if the entry lacks it."""
    usage = entry.get("product", {}).get("attributes", {}).get("usagetype", "")
    instance_type = re.fullmatch(r"(?:[^:]*-)?Processing:(ml\.[\w.-]+)", usage)
    prices = [
        float(dimension["pricePerUnit"]["USD"])
        for term in entry.get("terms", {}).get("OnDemand", {}).values()
        for dimension in term["priceDimensions"].values()
        if dimension.get("unit") in {"Hrs", "Hours", "Hour"} and "USD" in dimension["pricePerUnit"]
    ]
    return (instance_type[1] if instance_type else None), max(prices, default=None)


def _cache_file(region: str) -> Path:
    return cache_home() / "prices" / f"{region}.json"


def _store(region: str, prices: Prices) -> None:
    write_whole(_cache_file(region), json.dumps(prices.to_json(), indent=1))


@functools.cache
def _shipped() -> Mapping[str, Prices]:
    """Return the prices that come with the package, by region."""
    table = json.loads(Path(__file__).with_name("price_table.json").read_text(encoding="utf-8"))
    return {region: Prices.from_json(prices) for region, prices in table["regions"].items()}


def _cached(region: str) -> Prices:
    """Return the prices that `refresh` or `load` has read for a region. An unusable file has no prices."""
    if not _REGION.fullmatch(region):
        return _NOTHING
    try:
        path = _cache_file(region)
        return _read(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        return _NOTHING
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        logger.info("the cached prices for %s could not be read: %s", region, error)
        return _NOTHING


@functools.lru_cache(maxsize=8)
def _read(path: Path, _changed: int) -> Prices:
    return Prices.from_json(json.loads(path.read_text(encoding="utf-8")))
