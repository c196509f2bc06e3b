"""The wheel, the folder that is shipped and the competition that it is for: what is in them, when they are rebuilt, what is refused."""

import json
import shutil
import subprocess
import sys
import zipfile
from argparse import Namespace
from pathlib import Path

import kaggle_ship
import pytest
from kaggle_kit import competition, dataset
from kaggle_kit.competition import DEFAULT, load_competition
from kaggle_kit.paths import COMPETITIONS, KAGGLE_IMAGE, ROOT
from kaggle_kit.wheels import build_wheel, image_faults, is_current

from tests.notebook.notebook_lab import stub_wheel


def test_wheel_holds_the_package_and_is_rebuilt_only_when_that_changed(tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    shutil.copytree(ROOT / "hrm_submit", sources / "hrm_submit", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, sources)
    gone = sources / "hrm_submit" / "gone.py"
    gone.write_text("")
    folder = tmp_path / "wheels"
    wheel = build_wheel(folder, sources)
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    expected = {p.relative_to(sources).as_posix() for p in (sources / "hrm_submit").rglob("*") if p.is_file()}
    assert {n for n in names if ".dist-info/" not in n} == expected
    assert {"hrm_submit/gone.py", "hrm_submit/config/presets/nano.toml", "hrm_submit/checkpoints/nano.safetensors"} <= names

    first = wheel.stat().st_mtime_ns
    assert build_wheel(folder, sources).stat().st_mtime_ns == first
    gone.unlink()
    assert not is_current(wheel, sources)
    again = build_wheel(folder, sources)
    assert "hrm_submit/gone.py" not in zipfile.ZipFile(again).namelist() and is_current(again, sources)


def image(folder: Path, python: str = "3.12.13", torch: str = "2.10.0+cu128") -> Path:
    path = folder / "image.toml"
    path.write_text(f'checked = 2026-01-01\npython = "{python}"\n[packages]\ntorch = "{torch}"\nnumpy = "2.0.2"\n')
    return path


@pytest.mark.parametrize(
    ("requirements", "changed", "fault"),
    [
        (["torch>=2.8", "numpy>=1.26", 'pytest>=99; extra == "test"'], {}, None),
        (["torch>=2.8"], {"torch": "2.7.1"}, "needs torch>=2.8, the image of 2026-01-01 has 2.7.1"),
        (["numpy<2"], {}, "needs numpy<2"),
        (["scipy"], {}, "needs scipy, of which image.toml knows no version"),
        ([], {"python": "3.10.9"}, "needs Python >=3.11, the image has 3.10.9"),
    ],
)
def test_requirements_against_the_image(tmp_path: Path, requirements: list[str], changed: dict[str, str], fault: str | None) -> None:
    faults = image_faults(stub_wheel(tmp_path, requirements=requirements), image(tmp_path, **changed))
    assert len(faults) == (fault is not None)
    assert fault is None or fault in faults[0]


def build(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "scripts" / "build_offline_wheels.py", "--output", folder, *options]
    return subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)})


def test_offline_folder_is_flat_named_and_fits_kaggles_image(tmp_path: Path) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    for path in (first, second):
        path.write_bytes(b"x")
    folder = tmp_path / "offline"
    folder.mkdir()
    shutil.copy(ROOT / "offline_wheels" / "README.md", folder)
    told = (folder / "README.md").read_text()
    assert "make wheels" in told and "dataset-metadata.json" in told, "a clone says what belongs there"
    result = build(folder, "--checkpoint", str(first))
    assert result.returncode == 0 and "README.md" in result.stdout, result.stderr
    assert (folder / "README.md").read_text() == told
    names = sorted(p.name for p in folder.iterdir() if p.name != "README.md")
    assert names[:2] == ["dataset-metadata.json", "first.safetensors"] and names[2].endswith("-py3-none-any.whl")
    built, kernel = json.loads((folder / "dataset-metadata.json").read_text()), json.loads((ROOT / "kernel-metadata.json").read_text())
    assert [built["id"]] == kernel["dataset_sources"] == [f"{kernel['id'].split('/')[0]}/hrm-submit-wheels"]
    assert 6 <= len(built["title"]) <= 50 and len(built["licenses"]) == 1, "which the client checks before it creates a dataset"
    assert image_faults(folder / names[2], KAGGLE_IMAGE) == []

    (folder / "dataset-metadata.json").write_text('{"id": "me/hrm-submit-wheels"}')
    build(folder, "--checkpoint", str(second))
    assert [p.name for p in folder.glob("*.safetensors")] == ["second.safetensors"], "weights shipped before do not linger"
    assert "me/" in (folder / "dataset-metadata.json").read_text(), "an owner that is set stays"
    assert build(folder).returncode == 0 and (folder / "second.safetensors").is_file()
    build(folder, "--checkpoint", "none")
    assert not list(folder.glob("*.safetensors"))
    build(folder)
    own = load_competition().checkpoint
    assert [p.read_bytes() for p in folder.glob("*.safetensors")] == [(ROOT / own).read_bytes()], "the competition's"


def test_the_weights_are_those_of_the_competition_that_the_notebook_is_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = json.loads((ROOT / "kernel-metadata.json").read_text()) | {"competition_sources": ["arc-prize-2024"]}
    (tmp_path / "kernel-metadata.json").write_text(json.dumps(kernel))
    (tmp_path / "hrm_submit").symlink_to(ROOT / "hrm_submit")
    monkeypatch.setattr(dataset, "ROOT", tmp_path)
    monkeypatch.setattr(competition, "ROOT", tmp_path)
    options = Namespace(output=tmp_path / "offline", checkpoint=None, with_data=False, image=KAGGLE_IMAGE)
    assert dataset.build(options) == 0
    shipped, default = (load_competition(slug).checkpoint for slug in ("arc-prize-2024", DEFAULT))
    assert [p.name for p in options.output.glob("*.safetensors")] == [Path(shipped).name] != [Path(default).name]
    assert all((ROOT / load_competition(path.stem).checkpoint).is_file() for path in COMPETITIONS.glob("*.toml"))


def test_what_does_not_fit_fails_in_one_line(tmp_path: Path) -> None:
    binary = stub_wheel(tmp_path).rename(tmp_path / "hrm_submit-0.0.1-cp311-cp311-linux_x86_64.whl")
    assert "not a pure Python wheel" in image_faults(binary, image(tmp_path))[0]
    result = build(tmp_path / "offline", "--image", str(image(tmp_path, torch="2.1.0")))
    assert result.returncode == 1 and any("needs torch" in line and "2.1.0" in line for line in result.stderr.splitlines())
    (tmp_path / "nano.safetensors").write_bytes(b"my own")
    for name, told in (("missing", "no checkpoint there"), ("nano", "has the name of packaged weights")):
        result = build(tmp_path / "offline", "--checkpoint", str(tmp_path / f"{name}.safetensors"))
        assert result.returncode == 2 and result.stderr.count("\n") == 1 and f"{name}.safetensors: {told}" in result.stderr


FILES = ("kernel-metadata.json", "notebook/pretrain/kernel-metadata.json", "notebook/submission.ipynb")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tmp_path / name)
    return tmp_path


def test_a_file_of_ones_own_goes_into_all_three_and_that_of_the_tree_brings_them_back(clone: Path) -> None:
    text = (COMPETITIONS / "arc-prize-2026-arc-agi-2.toml").read_text(encoding="utf-8")
    for old, new in (("arc-prize-2026-arc-agi-2", "mine-2027"), ("hours = 12.0", "hours = 9"), ("cards = 4", "cards = 1")):
        text = text.replace(old, new)
    own = clone / "mine.toml"
    own.write_text(text)
    assert kaggle_ship.main(["compete", str(own), "--root", str(clone)]) == 0
    for name in FILES[:2]:
        kernel, before = (json.loads((folder / name).read_text(encoding="utf-8")) for folder in (clone, ROOT))
        assert kernel == before | {"competition_sources": ["mine-2027"]}
    cells = json.loads((clone / FILES[2]).read_text(encoding="utf-8"))["cells"]
    first = "".join(next(cell for cell in cells if cell["cell_type"] == "code")["source"])
    for line in ('COMPETITION = "mine-2027"\n', "SESSION_HOURS, REHEARSE_HOURS, SMOKE_HOURS = 9.0, 2.0, 0.1\n", "CARDS = 1  # "):
        assert line in first
    assert kaggle_ship.main(["compete", load_competition().slug, "--root", str(clone)]) == 0
    assert [(clone / name).read_bytes() for name in FILES] == [(ROOT / name).read_bytes() for name in FILES]


def test_what_is_not_there_or_has_no_place_changes_nothing(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert kaggle_ship.main(["compete", "chess", "--root", str(clone)]) == 2
    assert "unknown competition 'chess'; known: arc-prize-2024" in capsys.readouterr().err
    other = clone / "mine.toml"
    text = (COMPETITIONS / "arc-prize-2024.toml").read_text(encoding="utf-8")
    other.write_text(text.replace("_challenges.json", ".json"))
    assert kaggle_ship.main(["compete", str(other), "--root", str(clone)]) == 2
    assert "mine.toml: [files] test_challenges should be a name like *test_challenges.json" in capsys.readouterr().err
    notebook = clone / FILES[2]
    notebook.write_text(notebook.read_text(encoding="utf-8").replace("CARDS = 4", "CARDS = four"), encoding="utf-8")
    assert kaggle_ship.main(["compete", "arc-prize-2024", "--root", str(clone)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert (clone / FILES[0]).read_bytes() == (ROOT / FILES[0]).read_bytes()
