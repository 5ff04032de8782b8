"""A post office for each test."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.messaging.post_office import PostOffice, free_port


@pytest.fixture
async def post_office(tmp_path: Path) -> AsyncGenerator[PostOffice]:
    office = PostOffice(tmp_path / "inbox.sqlite", free_port())
    await office.open()
    yield office
    await office.close()
