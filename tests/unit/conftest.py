"""Both data planes for tests of whole nodes: what holds with one must hold with the other."""

from __future__ import annotations

import pytest

from yggpy.datapath.choice import DATAPATH_VARIABLE


@pytest.fixture(params=["pure", "native"])
def plane(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test once with each data plane, as an operator would choose it; the value is its name."""
    name = str(request.param)
    monkeypatch.setenv(DATAPATH_VARIABLE, name)
    return name
