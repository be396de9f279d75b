"""The hourly prices of instances."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from processing import ConfigurationError
from processing._utils import cache_home
from processing.pricing import Price, hourly_price, refresh
from processing.testing.wire import JsonService, make_client

if TYPE_CHECKING:
    import pathlib


@pytest.fixture(autouse=True)
def cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A cache folder of the test's own, which does not exist yet."""
    monkeypatch.setenv("PROCESSING_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def entry(usage: str, price: str, *, currency: str = "USD", unit: str = "Hrs") -> str:
    """An entry of AWS's price list, as GetProducts returns it: JSON in a string."""
    dimension = {"unit": unit, "pricePerUnit": {currency: price}}
    product = {"productFamily": "ML Instance", "attributes": {"usagetype": usage, "component": "Processing"}}
    terms = {"OnDemand": {"SKU.TERM": {"priceDimensions": {"SKU.TERM.RATE": dimension}}}}
    return json.dumps({"product": product, "terms": terms, "publicationDate": "2026-10-02T03:04:05Z"})


class PriceList:
    """A boto3 session whose pricing client is answered from pages."""

    def __init__(self, *pages: list[str]) -> None:
        self.pages, self.asked, self.regions = pages, [], []

    asked: list[dict[str, Any]]
    regions: list[str]

    def client(self, service: str, region_name: str) -> Any:
        self.regions.append(region_name)
        return make_client(service, JsonService({"GetProducts": self._answer}), region=region_name)

    def _answer(self, params: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(params)
        index = int(params.get("NextToken", 0))
        token = {"NextToken": str(index + 1)} if index + 1 < len(self.pages) else {}
        return {"FormatVersion": "aws_v1", "PriceList": self.pages[index], **token}


def test_shipped() -> None:
    """A few prices come with the package, each with the day that it was read."""
    assert hourly_price("ml.m5.xlarge", "us-east-1") == Price(0.23, "2026-07-30")
    assert str(hourly_price("ml.m5.xlarge", "us-east-1")) == "0.23 USD an hour (as of 2026-07-30)"


@pytest.mark.parametrize(
    ("kind", "region"),
    [("ml.p5.48xlarge", "us-east-1"), ("ml.m5.xlarge", "eu-central-1"), ("ml.m5.xlarge", "../us-east-1"), ("", "")],
)
def test_unknown(kind: str, region: str) -> None:
    """A price that is not known is None."""
    assert hourly_price(kind, region) is None


def test_refresh_reads_every_page() -> None:
    """After a refresh the region's prices are AWS's, with the day on which AWS published them."""
    prices = PriceList(
        [entry("EUC1-Processing:ml.m5.xlarge", "0.2760000000"), entry("EUC1-Train:ml.m5.xlarge", "9")],
        [entry("EUC1-Processing:ml.p4d.24xlarge", "45.5"), entry("EUC1-Processing:VolumeUsage.gp2", "1")],
    )
    assert refresh("eu-central-1", prices) == 2
    assert hourly_price("ml.m5.xlarge", "eu-central-1") == Price(0.276, "2026-10-02")
    assert hourly_price("ml.p4d.24xlarge", "eu-central-1") == Price(45.5, "2026-10-02")
    assert hourly_price("ml.m5.xlarge", "us-east-1") == Price(0.23, "2026-07-30")
    assert prices.regions == ["us-east-1"]
    assert {filter_["Field"]: filter_["Value"] for filter_ in prices.asked[0]["Filters"]} == {
        "regionCode": "eu-central-1",
        "component": "Processing",
    }


def test_refreshed_prices_go_before_the_shipped_ones() -> None:
    """A price from AWS has priority over a price in the package."""
    assert refresh("us-east-1", PriceList([entry("USE1-Processing:ml.m5.xlarge", "0.2")])) == 1
    assert hourly_price("ml.m5.xlarge", "us-east-1") == Price(0.2, "2026-10-02")
    assert hourly_price("ml.m5.large", "us-east-1") == Price(0.115, "2026-07-30")
    refresh("us-east-1", PriceList([entry("USE1-Processing:ml.m5.xlarge", "0.30")]))
    assert hourly_price("ml.m5.xlarge", "us-east-1") == Price(0.3, "2026-10-02")


@pytest.mark.parametrize(
    "listed",
    [
        [],
        [entry("CNW1-Processing:ml.m5.xlarge", "2.0", currency="CNY")],
        [entry("USE1-Processing:ml.m5.xlarge", "0.1", unit="GB-Mo")],
    ],
)
def test_no_prices_there(listed: list[str], cache: pathlib.Path) -> None:
    """A region for which AWS lists no price in dollars is an error, and nothing is kept."""
    with pytest.raises(ConfigurationError, match=r"^region: AWS lists no prices"):
        refresh("cn-north-1", PriceList(listed))
    assert not cache.exists()


@pytest.mark.parametrize("region", ["", "EU", "../../etc", "eu-central-1/..", None])
def test_an_invalid_region(region: Any) -> None:
    """A name that is not a region never leads to a call or a file."""
    with pytest.raises(ConfigurationError, match=r"^region: must be the name of an AWS region"):
        refresh(region, PriceList([]))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"as_of": "x", "usd": {"ml.m5.xlarge": "x"}}'])
def test_a_damaged_cache_is_no_cache(text: str, cache: pathlib.Path) -> None:
    """A damaged file leaves the shipped prices available."""
    (cache / "prices").mkdir(parents=True)
    (cache / "prices" / "us-east-1.json").write_text(text)
    assert hourly_price("ml.m5.xlarge", "us-east-1") == Price(0.23, "2026-07-30")


def test_a_failed_refresh_keeps_the_earlier_prices(cache: pathlib.Path) -> None:
    """An error of AWS's, or a folder that cannot be written, leaves the earlier prices whole and no other file."""
    refresh("us-east-1", PriceList([entry("USE1-Processing:ml.m5.xlarge", "0.2")]))
    with pytest.raises(json.JSONDecodeError):
        refresh("us-east-1", PriceList([entry("USE1-Processing:ml.m5.xlarge", "0.9")], ["{"]))
    assert hourly_price("ml.m5.xlarge", "us-east-1") == Price(0.2, "2026-10-02")
    assert [path.name for path in (cache / "prices").iterdir()] == ["us-east-1.json"]


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """The environment names the folder, else it is the user's. A relative XDG_CACHE_HOME is ignored."""
    assert cache_home() == tmp_path / "cache"
    monkeypatch.delenv("PROCESSING_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_home() == tmp_path / ".cache" / "sm-processing"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_home() == tmp_path / "xdg" / "sm-processing"
