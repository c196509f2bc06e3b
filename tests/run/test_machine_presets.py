"""Presets of machines: what they change, and which one a run takes by itself."""

from dataclasses import replace
from pathlib import Path

import pytest

import hrm_submit
from hrm_submit.config.preset_files import load_preset
from hrm_submit.config.runtime import preset_of_cards
from hrm_submit.core.device import Card
from hrm_submit.core.errors import ModelConflictError
from hrm_submit.model import packaged
from hrm_submit.solver import interface
from tests.shared import write_weights

L4, T4 = Card("NVIDIA L4", 8.9, 22.0), Card("Tesla T4", 7.5, 14.6)


@pytest.mark.parametrize("machine", ["cpu", "l4x4", "t4x2", "rtx-pro-6000", "h100"])
def test_the_preset_of_a_machine_alone_keeps_the_recipe(machine: str) -> None:
    """Model, pre-training and all of test-time training and voting but how many at once."""
    packaged_weights = packaged.packaged_checkpoint(machine)
    assert packaged_weights is not None
    for checkpoint in (packaged_weights, None):
        plain, layered = packaged.resolve_preset("", checkpoint), packaged.resolve_preset(machine, checkpoint)
        ttt = replace(layered.ttt, batch_size=plain.ttt.batch_size)
        vote = replace(layered.vote, batch_size=plain.vote.batch_size, views=plain.vote.views)
        assert replace(layered, device=plain.device, budget=plain.budget, ttt=ttt, vote=vote) == plain
        assert layered == packaged.resolve_preset(f"nano,{machine}", checkpoint)


@pytest.mark.parametrize("name", ["codes", "patches"])
def test_a_layer_that_changes_the_model_keeps_the_recipe(name: str, tmp_path: Path) -> None:
    checkpoint = packaged.packaged_checkpoint(name)
    assert checkpoint is not None and checkpoint.stem == name
    assert packaged.resolve_preset(name, checkpoint) == packaged.resolve_preset("", checkpoint)
    narrow = tmp_path / "narrow.toml"
    narrow.write_text("[model]\nhidden_size = 64\n")
    assert packaged.resolve_preset(f"{narrow},nano-2d,{name}", checkpoint).model == packaged.resolve_preset("", checkpoint).model
    with pytest.raises(ModelConflictError, match=r"narrow.toml: \[model\] hidden_size = 64"):
        packaged.resolve_preset(f"nano-2d,{name},{narrow}", checkpoint)
    assert packaged.resolve_preset("codes", None).ttt.batch_size == load_preset("nano").ttt.batch_size


@pytest.mark.parametrize(
    ("cards", "machine"),
    [
        ([], ""),
        ([L4] * 4, "l4x4"),
        ([T4], "t4x2"),
        ([Card("NVIDIA RTX PRO 6000 Blackwell Server Edition", 12.0, 95.0)], "rtx-pro-6000"),
        ([Card("NVIDIA H100 80GB HBM3", 9.0, 79.1)] * 8, "h100"),
        ([Card("NVIDIA L40S", 8.9, 44.5)], "h100"),
        ([Card("NVIDIA H200", 9.0, 139.0)], "rtx-pro-6000"),
        ([Card("Tesla V100-SXM2-32GB", 7.0, 31.7)], "t4x2"),
        ([Card("NVIDIA H100 80GB HBM3", 9.0, 79.1), L4], "l4x4"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{len(value)}x{value[0].name}" if value else "none",
)
def test_cards_find_their_preset(cards: list[Card], machine: str) -> None:
    assert preset_of_cards(cards) == machine


def test_the_preset_of_a_machine_takes_the_best_weights_that_the_package_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged, "CHECKPOINTS", tmp_path)

    def place(name: str) -> Path:
        return write_weights(tmp_path / f"{name}.safetensors", load_preset(name).model, preset=name)

    assert packaged.packaged_checkpoint("l4x4") is None
    nano = place("nano")
    assert packaged.packaged_checkpoint("l4x4") == packaged.packaged_checkpoint("") == nano
    preset = packaged.resolve_preset("l4x4", nano)
    assert (preset.model, preset.ttt.batch_size, preset.vote.views) == (load_preset("nano").model, 32, 128), "with the settings of a GPU"
    assert packaged.packaged_checkpoint("gpu-small") is None, "nano is another model"
    small = place("gpu-small")
    assert {packaged.packaged_checkpoint(names) for names in ("l4x4", "t4x2", "gpu-small")} == {small}
    assert {packaged.packaged_checkpoint(names) for names in ("", "nano,l4x4", "cpu")} == {nano}
    preset = packaged.resolve_preset("t4x2", small)
    assert (preset.ttt.max_segments, preset.ttt.batch_size, preset.vote.views) == (2000, 16, 128), "the preset of the machine over its own"


def test_python_takes_the_preset_of_its_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interface, "cards", lambda devices: [L4])
    assert hrm_submit.Solver(device="cpu").preset.vote.views == 128
    assert hrm_submit.Solver(device="cpu", preset="nano").preset.vote.views == 32
