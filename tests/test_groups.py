"""Tests that share something costly, such as a browser or a cluster, run in one process."""

from __future__ import annotations

import pytest

GROUP = "groups"


@pytest.mark.xdist_group(GROUP)
def test_a_group_is_known_to_xdist(request: pytest.FixtureRequest) -> None:
    """xdist marks the ids of its tests, which some versions of pytest do not let it do."""
    if not hasattr(request.config, "workerinput"):
        pytest.skip("the tests run in a single process")
    assert request.node.nodeid.endswith(f"@{GROUP}")
