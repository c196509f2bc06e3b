"""Wrong input to `pretrain`: one line that names the fault, exit 2, and no segment done."""

import shlex
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from hrm_submit.cli import main
from hrm_submit.train import pretrain
from hrm_submit.train.loop import Trainer
from hrm_submit.train.ranks import Ranks
from tests.train.lab import options, preset, write_data


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs `pretrain` with options that must be refused; returns the line on standard error."""

    def run(*arguments: str) -> str:
        capsys.readouterr()
        with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
            patch.setattr(Trainer, "run", Mock(side_effect=AssertionError("a segment was begun")))
            sys.exit(main(["pretrain", *arguments]))
        error = capsys.readouterr().err
        assert ended.value.code == 2 and "Traceback" not in error
        assert error.count("hrm-submit") == 1
        return error.strip().splitlines()[-1]

    return run


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ("--segments 5 --data arc-agi-3-training", "unknown data 'arc-agi-3-training'; known: arc-agi-1-training"),
        ("--segments 5 --data {0}/absent.json", "absent.json: no such"),
        ("--segments 5 --from {0}/absent.safetensors", "absent.safetensors: no such"),
        ("--segments 5 --validate {0}/absent.json", "absent.json: no such"),
        ("--segments 5 --preset {0}/absent.toml", "no such file"),
        ("--segments 0", "--segments must be at least 1"),
        ("--time-budget soon", "not a duration: 'soon'"),
        ("--segments 5 --time-budget 5m", "not allowed with"),
        ("", "required"),
        ("--segments 5 --seed -1", "-1"),
        ("--segments 5 --every never", "not a duration"),
        ("--segments 5 --every 0", "not a duration"),
        ("--segments 5 --log-every 0", "--log-every must be at least 1"),
        ("--segments 5 --threads 0", "--threads must be at least 1"),
        ("--segments 5 --devices cuda:7", "no cuda:7 here"),
        ("--segments 5 --resume", "no saved run to resume"),
        ("--segments 5 --validate {0}/little_challenges.json", "no task is left"),
        ("--segments 5 --validate {0}/blind_challenges.json", "has no solutions to measure by"),
        ("--segments 5 --out {0}/file", "file: cannot be written"),
        ("--segments 5 --out {0}/file/out", "file/out: cannot be written"),
        ("--segments 5 --out /proc/out", "/proc/out: cannot be written"),
        ("--segments 5 --preset {0}/tiny.toml,{0}/narrow.toml", "no task needs a canvas of side 1 to 2"),
        ("--segments 5 --preset {0}/tiny.toml,{0}/short.toml", "seq_len = 100 is too small"),
    ],
)
def test_options_that_cannot_be(tmp_path: Path, refused: Callable[..., str], more: str, fault: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "narrow.toml").write_text("[train]\nmax_side = 2\n")
    (tmp_path / "short.toml").write_text("[model]\nseq_len = 100\n")
    write_data(tmp_path, name="blind").with_name("blind_solutions.json").unlink()
    assert fault in refused(*options(tmp_path, *shlex.split(more.format(tmp_path))))


def test_a_batch_that_the_ranks_cannot_share(tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrain, "joined", lambda device: nullcontext(Ranks(0, 3)))
    assert "batch_size 8 cannot be shared by 3 ranks" in refused(*options(tmp_path, "--segments", "5"))


def test_resuming_something_else(tmp_path: Path, refused: Callable[..., str]) -> None:
    assert main(["pretrain", *options(tmp_path, "--segments", "3")]) == 0
    again = options(tmp_path, "--segments", "6", "--resume")
    assert "holds a run already; continue it with --resume" in refused(*options(tmp_path, "--segments", "6"))
    assert "[train] lr = 0.003, but the preset has 0.5" in refused(*again, "--preset", preset(tmp_path, "[train]\nlr = 0.5\n"))
    assert "[model] L_layers = 1, but the preset has 2" in refused(*again, "--preset", preset(tmp_path, "[model]\nL_layers = 2\n"))
    assert "was trained with seed 0, not 1" in refused(*again, "--preset", preset(tmp_path), "--seed", "1")
    assert "other tasks" in refused(*again, "--data", str(write_data(tmp_path / "more", 5)))
    assert "other tasks" in refused(*again, "--data", str(write_data(tmp_path)) + ":demos")
    state = tmp_path / "out" / "state.pt"
    state.write_bytes(state.read_bytes()[:1000])
    assert "state.pt: cannot be read" in refused(*again)
    for other in ({}, [], torch.zeros(3)):
        torch.save(other, state)
        assert "state.pt: is not the state of a run" in refused(*again)


def test_starting_from_another_model(tmp_path: Path, refused: Callable[..., str]) -> None:
    assert main(["pretrain", *options(tmp_path / "a", "--segments", "2")]) == 0
    start = tmp_path / "a" / "out" / "final.safetensors"
    wider = options(tmp_path / "b", "--segments", "2", "--from", str(start), preset_text="[model]\nH_layers = 2\n")
    assert "final.safetensors: was trained with [model] H_layers = 1, but the preset has 2" in refused(*wider)
    start.write_bytes(start.read_bytes()[:5000])
    assert "not a whole safetensors file" in refused(*options(tmp_path / "b", "--segments", "2", "--from", str(start)))
