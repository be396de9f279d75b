"""Advice for a lack of capacity."""

from __future__ import annotations

from typing import Any

import pytest

from processing.request.capacity import capacity_advice


def advice(subnets: list[str] | None = None, **cluster: Any) -> str:
    """The advice for a request with this cluster."""
    network = {"VpcConfig": {"Subnets": subnets, "SecurityGroupIds": ["sg-1"]}} if subnets else {}
    return capacity_advice({"ProcessingResources": {"ClusterConfig": cluster}, "NetworkConfig": network})


def test_preferences_to_paste() -> None:
    """The advice names types of the same kind and size, the type itself first, at most as many as AWS takes."""
    text = advice(InstanceType="ml.m5.xlarge", InstanceCount=1)
    assert "capacity of ml.m5.xlarge" in text
    assert "instance_preferences=['ml.m5.xlarge', 'ml.m6i.xlarge', 'ml.m4.xlarge', 'ml.m7i.xlarge'," in text
    assert "] in place of instance_type" in text  # which they exclude
    assert text.count("'ml.") == 5


def test_preferences_are_kept() -> None:
    """Types that were tried stay in front, and further ones are added."""
    preferences = [{"InstanceType": "ml.g5.xlarge"}, {"InstanceType": "ml.g4dn.xlarge"}]
    text = advice(InstancePreferences=preferences)
    assert "ml.g5.xlarge or ml.g4dn.xlarge" in text
    assert "instance_preferences=['ml.g5.xlarge', 'ml.g4dn.xlarge', 'ml.g6.xlarge'" in text


@pytest.mark.parametrize("kind", ["ml.p2.xlarge", "ml.new9.huge", "strange"])
def test_nothing_like_it(kind: str) -> None:
    """For a type without similar ones, the advice is another type, and none is invented."""
    text = advice(InstanceType=kind, InstanceCount=1)
    assert "instance_preferences=[" not in text
    assert "other instance types" in text


def test_five_preferences_are_all_there_can_be() -> None:
    """No further preference is advised if AWS accepts no more."""
    preferences = [{"InstanceType": f"ml.m5.{size}xlarge"} for size in ("", "2", "4", "12", "24")]
    assert "instance_preferences=[" not in advice(InstancePreferences=preferences)


def test_a_processor_of_another_architecture_is_never_advised() -> None:
    """An image for x86 does not run on Graviton."""
    assert "ml.m7g." not in advice(InstanceType="ml.m7i.xlarge", InstanceCount=1)


def test_subnets_and_instances_in_the_way() -> None:
    """Several instances, and the subnets that tie the job to availability zones, are named."""
    text = advice(["subnet-1", "subnet-2"], InstanceType="ml.m5.xlarge", InstanceCount=4)
    assert "fewer instances than 4" in text
    assert "only use those of subnet-1, subnet-2" in text
    plain = advice(InstanceType="ml.m5.xlarge", InstanceCount=1)
    assert "fewer" not in plain
    assert "subnets" not in plain
