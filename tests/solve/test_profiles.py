"""Profiles of devices: what they change of a preset, and what not."""

from dataclasses import replace

import pytest

from hrm_submit.solve import run as run_module


@pytest.mark.parametrize("profile", ["cpu", "l4x4", "t4x2", "rtx-pro-6000", "h100"])
def test_a_profile_alone_keeps_all_but_device_and_budget(profile: str) -> None:
    box = run_module.checkpoint_in_the_box(profile)
    assert box is not None
    for checkpoint in (box, None):
        plain, with_profile = run_module.resolve_preset("", checkpoint), run_module.resolve_preset(profile, checkpoint)
        assert replace(with_profile, device=plain.device, budget=plain.budget) == plain
        assert with_profile == run_module.resolve_preset(f"nano,{profile}", checkpoint)
