"""Presets: what they layer to, and what they refuse in one line."""

from pathlib import Path

import pytest

from hrm_submit.config.preset_files import layer, load_preset, preset_names
from hrm_submit.config.schema import ModelConfig, Preset
from hrm_submit.core.errors import ConfigError
from tests.shared import write


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_of_the_package_loads_and_its_tables_give_it_again(name: str) -> None:
    preset = load_preset(name)
    assert layer(Preset(), preset.to_dict()) == preset


def test_the_published_sizes() -> None:
    paper = load_preset("hrm-27m").model
    assert (paper.hidden_size, paper.num_heads, paper.H_layers, paper.L_layers, paper.H_cycles, paper.L_cycles) == (512, 8, 4, 4, 2, 2)
    assert (paper.halt_max_steps, paper.gradient, paper.embedding, paper.puzzle_emb_len) == (16, "last", "augmented", 1)
    small = load_preset("hrm-7m").model
    assert (small.hidden_size, small.num_heads, small.H_layers, small.L_layers, small.halt_max_steps) == (256, 8, 4, 3, 8)


def test_layers_go_left_to_right_and_keep_what_they_do_not_name(tmp_path: Path) -> None:
    a = write(tmp_path / "a.toml", "[ttt]\nlr = 0.5\nbatch_size = 3\n[vote]\nviews = 7\n")
    b = write(tmp_path / "b.toml", "[ttt]\nlr = 2\n[device]\nengine = 'compile'\n")
    preset = load_preset(f"nano,{a}, {b}")
    assert (preset.ttt.lr, preset.ttt.batch_size, preset.vote.views, preset.device.engine) == (2.0, 3, 7, "compile")
    assert isinstance(preset.ttt.lr, float), "a whole number where a fraction may stand becomes one"
    assert preset.ttt.muon_lr == load_preset("nano").ttt.muon_lr
    assert preset.model == load_preset("nano").model
    assert load_preset(f"{b},{a}").ttt.lr == 0.5


def test_a_base_lies_below_every_layer(tmp_path: Path) -> None:
    base = layer(Preset(), {"vote": {"views": 5, "batch_size": 2}})
    preset = load_preset(str(write(tmp_path / "a.toml", "[vote]\nbatch_size = 4\n")), base)
    assert (preset.vote.views, preset.vote.batch_size) == (5, 4)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[modle]\nhidden_size = 3\n", r"no table \[modle\].*\[?model"),
        ("ttt = 3\n", r"\[ttt\] is not a table"),
        ("[ttt]\nlearning_rate = 1.0\n", r"\[ttt\] has no key 'learning_rate'"),
        ('[ttt]\nlr = "fast"\n', r"\[ttt\] lr = 'fast' should be a number"),
        ("[ttt]\nlr = true\n", "lr = True should be a number"),
        ("[ttt]\nlr = nan\n", "lr = nan should be a number"),
        ("[ttt]\nlr = inf\n", "lr = inf should be a number"),
        ("[ttt]\nbatch_size = 1.5\n", "batch_size = 1.5 should be a whole number"),
        ("[ttt]\nbatch_size = true\n", "batch_size = True should be a whole number"),
        ("[ttt]\ntranslate = 1\n", "translate = 1 should be true or false"),
        ('[ttt]\noptimizer = "sgd"\n', "optimizer = 'sgd' should be one of 'muon', 'adamw', 'adam_atan2'"),
        ("[ttt]\nlr = -1.0\n", "lr must be at least 0, not -1.0"),
        ("[train]\nlr_min_ratio = 1.5\n", "lr_min_ratio must be at least 0 and at most 1, not 1.5"),
        ("[ttt]\nfirst_vote = 0.0\n", r"\[ttt\] first_vote must be above 0 and at most 1, not 0.0"),
        ("[vote]\nviews = 0\n", "views must be at least 1"),
        ("[budget]\nreserve = 1.0\n", "reserve must be at least 0 and below 1, not 1.0"),
        ("[budget]\nhang_seconds = 0\n", r"\[budget\] hang_seconds must be above 0, not 0"),
        ("[device]\nthreads = 0\n", "threads"),
        ("[model]\nnum_heads = 7\n", "not a multiple of num_heads 7"),
        ("[model]\nhidden_size = 24\nnum_heads = 8\n", "rope needs a head width .* that 2 divides"),
        ("[model]\npuzzle_emb_ndim = -1\n", "puzzle_emb_ndim must be at least 0 and at most 1000000, not -1"),
        ('[model]\nH_mixer = "axial"\n', "axial needs an even num_heads, and rope_2d or learned positions"),
        ('[model]\nL_mixer = "axial"\npos_encodings = "rope_2d"\nnum_heads = 1\n', "axial needs an even num_heads"),
        ('[model]\npos_encodings = "rope_2d"\nhidden_size = 24\n', "rope_2d needs a head width"),
        ('[model]\nL_mixer = "linear"\n', "L_mixer = 'linear' should be one of 'attention', 'axial', 'none'"),
        ("[model]\nconv_size = 2\n", "conv_size 2 is neither 0 nor an odd number"),
        ("[ttt\nlr = 1\n", "not TOML"),
    ],
)
def test_a_fault_is_one_line_that_says_what_and_where(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path / "mine.toml", text)
    with pytest.raises(ConfigError, match=said) as caught:
        load_preset(f"nano,{path}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nanno", r"unknown preset 'nanno'; known: .*nano"),
        ("{0}/none.toml", r"none\.toml: no such file"),
        ("{0}/.toml", r"/\.toml: no such file"),
        ("{0}/bin.toml", r"bin\.toml: not TOML"),
        ("{0}/flat.toml", r"flat\.toml: \[device\] is not a table"),
    ],
)
def test_names_and_files_that_are_no_presets_are_one_line(tmp_path: Path, name: str, said: str) -> None:
    write(tmp_path / "bin.toml", b"\xff\xfe\x00")
    write(tmp_path / "flat.toml", "device = 3\n")
    with pytest.raises(ConfigError, match=said) as caught:
        load_preset(name.format(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("ndim", "width", "tokens"), [(0, 64, 0), (64, 64, 1), (65, 64, 2), (32, 64, 1), (128, 64, 2)])
def test_tokens_that_the_task_embedding_fills(ndim: int, width: int, tokens: int) -> None:
    assert ModelConfig(hidden_size=width, num_heads=2, puzzle_emb_ndim=ndim).puzzle_emb_len == tokens
