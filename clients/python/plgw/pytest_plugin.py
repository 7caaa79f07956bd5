"""The fixture `plgw`: the running gateway, restored after each test."""

from collections.abc import Iterator

import pytest

from . import Gateway


@pytest.fixture
def plgw() -> Iterator[Gateway]:
    """The gateway at `PLGW_ADMIN`; the test's changes are undone after it."""
    gateway = Gateway()
    try:
        yield gateway
    finally:
        gateway.reset()
