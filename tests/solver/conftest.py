"""What the tests of solving one task share."""

from pathlib import Path

import pytest

from hrm_submit.config.schema import Preset
from tests.run.lab import tiny_preset


@pytest.fixture
def preset(tmp_path: Path) -> Preset:
    """A preset that makes a small model."""
    return tiny_preset(tmp_path)
