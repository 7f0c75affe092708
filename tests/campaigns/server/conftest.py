"""A served campaign."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from ledgers import FIRST, SECOND, record_round
from starlette.testclient import TestClient

from campaigns.campaign import Campaign
from campaigns.server.app import create_app


@pytest.fixture
def serve(campaign: Campaign) -> Iterator[Callable[..., TestClient]]:
    """Serves the campaign demo, which has two proposals; options as of `create_app`."""
    record_round(campaign, FIRST, SECOND)
    with ExitStack() as stack:

        def start(**options: object) -> TestClient:
            app = create_app([campaign.folder], **options)  # type: ignore[arg-type]
            return stack.enter_context(TestClient(app, base_url="http://localhost"))

        yield start


@pytest.fixture
def client(serve: Callable[..., TestClient]) -> TestClient:
    """A client of the campaign demo."""
    return serve()
