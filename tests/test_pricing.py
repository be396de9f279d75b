"""The hourly prices of instances."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import pathlib
from typing import Any

import pytest

from processing import ConfigurationError
from processing._utils import cache_home
from processing.pricing import Price, hourly_price, load, refresh
from processing.testing.wire import JsonService, make_client

ROOT = pathlib.Path(__file__).resolve().parent.parent


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


def offers(*usages: tuple[str, str], region: str = "eu-west-1") -> dict[str, Any]:
    """A price list as AWS publishes it for download."""
    products, terms = {}, {}
    for number, (usage, price) in enumerate(usages):
        products[f"SKU{number}"] = {
            "sku": f"SKU{number}",
            "productFamily": "ML Instance",
            "attributes": {"usagetype": usage, "regionCode": region, "servicecode": "AmazonSageMaker"},
        }
        dimension = {"unit": "Hrs", "beginRange": "0", "endRange": "Inf", "pricePerUnit": {"USD": price}}
        terms[f"SKU{number}"] = {f"SKU{number}.TERM": {"priceDimensions": {f"SKU{number}.TERM.RATE": dimension}}}
    return {
        "formatVersion": "v1.0",
        "offerCode": "AmazonSageMaker",
        "publicationDate": "2026-11-05T18:22:33Z",
        "products": products,
        "terms": {"OnDemand": terms},
    }


def test_a_downloaded_price_list_is_loaded(tmp_path: pathlib.Path) -> None:
    """Every region of the file then has its prices; other usage types of SageMaker are no prices of jobs."""
    path = tmp_path / "index.json"
    listed = offers(
        ("EU-Processing:ml.m5.large", "0.128"), ("EU-Train:ml.m5.large", "9"), ("EU-Processing:ml.c5.xlarge", "0.23")
    )
    path.write_text(json.dumps(listed))
    assert load(path) == 2
    assert hourly_price("ml.m5.large", "eu-west-1") == Price(0.128, "2026-11-05")
    assert hourly_price("ml.m5.large", "us-east-1") == Price(0.115, "2026-07-30")


def offers_as_csv(*usages: tuple[str, str, str], usage_column: str = "usageType") -> str:
    """The same in CSV, from usage types, regions and prices."""
    about = [
        ["FormatVersion", "v1.0"],
        ["Disclaimer", "for informational purposes, only"],
        ["Publication Date", "2026-11-05T18:22:33Z"],
        ["Version", "20261105182233"],
        ["OfferCode", "AmazonSageMaker"],
        ["SKU", "TermType", "PriceDescription", "Unit", "PricePerUnit", "Currency", usage_column, "Region Code"],
    ]
    text = '$0.1 per "hour", in this region'
    rows = [["SKU", "OnDemand", text, "Hrs", price, "USD", usage, region] for usage, region, price in usages]
    reserved = ["SKU", "Reserved", text, "Hrs", "99", "USD", "EU-Processing:ml.m5.large", "eu-west-1"]
    chinese = ["SKU", "OnDemand", text, "Hrs", "9", "CNY", "CNN1-Processing:ml.m5.large", "cn-north-1"]
    written = io.StringIO()
    csv.writer(written, quoting=csv.QUOTE_ALL).writerows([*about, *rows, reserved, chinese])
    return written.getvalue()


@pytest.mark.parametrize("usage_column", ["usageType", "Usage Type"])
def test_a_price_list_in_csv_is_loaded(usage_column: str, tmp_path: pathlib.Path) -> None:
    """All types and regions of the file are known then; reserved ones and other currencies are not."""
    types = ["ml.t3.medium", "ml.m5.large", "ml.p4de.24xlarge", "ml.trn1n.32xlarge", "ml.g6e.48xlarge"]
    regions = ["eu-west-1", "us-gov-west-1", "eusc-de-east-1", "ap-southeast-7", "us-iso-east-1"]
    rows = [(f"X-Processing:{kind}", region, "0.25") for kind in types for region in regions]
    rows += [("X-Train:ml.m4.large", region, "9") for region in regions]
    path = tmp_path / "index.csv"
    path.write_text(offers_as_csv(*rows, usage_column=usage_column), encoding="utf-8-sig")
    assert load(path) == len(types) * len(regions)
    prices = {hourly_price(kind, region) for kind in types for region in regions}
    assert prices == {Price(0.25, "2026-11-05")}
    assert hourly_price("ml.m5.large", "cn-north-1") is None
    assert hourly_price("ml.m4.large", "eu-west-1") is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not a price list of AWS's"),
        ("\n".join(offers_as_csv().splitlines()[:5]), "has no prices of processing jobs"),
        ("a,b\nc,d\n", "is not a price list of AWS's"),
        (offers_as_csv().rpartition("Reserved")[0], "is not a price list of AWS's"),  # a part of a download
        (offers_as_csv(), "has no prices of processing jobs in US dollars"),
        (None, "path: .*index.json is not a price list of AWS's: .*No such file"),
        ("{", "is not a price list of AWS's"),
        ("[]", "is not a price list of AWS's"),
        (json.dumps(offers()), "has no prices of processing jobs in US dollars"),
        (json.dumps(offers(("EU-Train:ml.m5.large", "9"))), "has no prices of processing jobs in US dollars"),
    ],
)
def test_a_file_that_is_no_price_list(text: str | None, problem: str, tmp_path: pathlib.Path) -> None:
    """Any other file is an error that names it, and nothing is kept."""
    if text is not None:
        (tmp_path / "index.json").write_text(text)
    with pytest.raises(ConfigurationError, match=problem):
        load(tmp_path / "index.json")
    assert not (tmp_path / "cache").exists()


def test_the_script_makes_the_table_of_the_package(tmp_path: pathlib.Path) -> None:
    """The table has the source, and for each region the day and the prices."""
    spec = importlib.util.spec_from_file_location("price_table", ROOT / "scripts" / "price_table.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    listed = offers(("X-Processing:ml.m5.large", "0.1"), region="eu-west-1")
    (tmp_path / "eu-west-1").write_text(json.dumps(listed))
    (tmp_path / "us-east-1").write_text(offers_as_csv(("X-Processing:ml.m5.large", "us-east-1", "0.1")))
    script.main([str(tmp_path / "eu-west-1"), str(tmp_path / "us-east-1")], tmp_path / "table.json")
    made = json.loads((tmp_path / "table.json").read_text())
    shipped = json.loads((ROOT / "processing" / "price_table.json").read_text())
    assert made.keys() == shipped.keys() == {"source", "regions"}
    prices = {"as_of": "2026-11-05", "usd": {"ml.m5.large": 0.1}}
    assert made["regions"] == {"eu-west-1": prices, "us-east-1": prices}
