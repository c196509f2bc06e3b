"""Profiles of devices: what they change of a preset, and what not."""

from dataclasses import replace

import pytest

from hrm_submit.model import packaged


@pytest.mark.parametrize("profile", ["cpu", "l4x4", "t4x2", "rtx-pro-6000", "h100"])
def test_a_profile_alone_keeps_all_but_device_and_budget(profile: str) -> None:
    box = packaged.packaged_checkpoint(profile)
    assert box is not None
    for checkpoint in (box, None):
        plain, with_profile = packaged.resolve_preset("", checkpoint), packaged.resolve_preset(profile, checkpoint)
        assert replace(with_profile, device=plain.device, budget=plain.budget) == plain
        assert with_profile == packaged.resolve_preset(f"nano,{profile}", checkpoint)
