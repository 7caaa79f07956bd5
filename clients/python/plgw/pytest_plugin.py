"""The fixture `plgw`: the running gateway, as it was before each test."""

from collections.abc import Iterator

import pytest

from . import Gateway


@pytest.fixture
def plgw() -> Iterator[Gateway]:
    """The gateway that `PLGW_ADMIN` names; what the test changed is taken back after it."""
    gateway = Gateway()
    try:
        yield gateway
    finally:
        gateway.reset()
