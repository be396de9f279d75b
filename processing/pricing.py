"""The hourly prices of instances: a few come with the package, and `refresh` fetches all of AWS's.

AWS has thousands of prices and changes them, so a complete table in the package would soon be wrong. `refresh` reads
AWS's price list into the cache folder. Nothing else fetches prices, and a price that is not known is reported as
unknown.
"""

from __future__ import annotations

import functools
import json
import logging
import re
from typing import TYPE_CHECKING, Any

import attrs

from processing._utils import cache_home, write_whole
from processing._utils.validation import TEXT, require, with_attributes
from processing.aws.credentials import explained_credentials
from processing.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

logger = logging.getLogger(__name__)

# Usage types USE1-Processing:<instance type> of AWS's price list, as third parties published them on that day. They
# were not compared with AWS (docs/explanation/what-is-not-checked.md). `refresh` reads AWS itself.
_SHIPPED_AS_OF = "2026-07-30"
_SHIPPED = {
    "us-east-1": {"ml.m5.large": 0.115, "ml.m5.xlarge": 0.23, "ml.t3.medium": 0.05},
}

# The price list API exists in a few regions only. Each of them has the prices of all regions.
_API_REGION = "us-east-1"
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d+")


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


def hourly_price(instance_type: str, region: str) -> Price | None:
    """Return the hourly price of an instance type in a region, without a call. Return None if it is not known.

    The prices that `refresh` has read have priority over those that come with the package.

    Args:
        instance_type: the instance type, such as `ml.m5.xlarge`.
        region: the AWS region, such as `eu-central-1`.
    """
    require("instance_type", instance_type, TEXT)
    require("region", region, TEXT)
    as_of, usd = _cached(region)
    if instance_type in usd:
        return Price(usd[instance_type], as_of)
    shipped = _SHIPPED.get(region, {})
    return Price(shipped[instance_type], _SHIPPED_AS_OF) if instance_type in shipped else None


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
    found: dict[str, float] = {}
    published = ""
    with explained_credentials(lambda: getattr(session, "boto_session", session)):
        for entry in _price_list(_pricing_client(session), region):
            instance_type, usd = _price_of(entry)
            if instance_type and usd is not None:
                found[instance_type] = max(usd, found.get(instance_type, 0.0))
                published = max(published, str(entry.get("publicationDate", ""))[:10])
    if not found:
        raise ConfigurationError(f"region: AWS lists no prices of processing jobs in US dollars for {region!r}")
    write_whole(_cache_file(region), json.dumps({"as_of": published, "usd": dict(sorted(found.items()))}, indent=1))
    return len(found)


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


def _cached(region: str) -> tuple[str, Mapping[str, float]]:
    """Return the day and the prices that `refresh` has read for a region. Both are empty if the file is unusable."""
    if not _REGION.fullmatch(region):
        return "", {}
    try:
        path = _cache_file(region)
        return _read(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        return "", {}
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        logger.info("the cached prices for %s could not be read: %s", region, error)
        return "", {}


@functools.lru_cache(maxsize=8)
def _read(path: Path, _changed: int) -> tuple[str, Mapping[str, float]]:
    cached = json.loads(path.read_text(encoding="utf-8"))
    return str(cached["as_of"]), {str(name): float(usd) for name, usd in cached["usd"].items()}
