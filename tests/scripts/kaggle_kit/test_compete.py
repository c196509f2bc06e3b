"""Another competition in one TOML file: what the notebook and both kernels then say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import kaggle_ship
import pytest
from kaggle_kit.competition import load_competition
from kaggle_kit.paths import COMPETITIONS, ROOT

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
    notebook = clone / FILES[2]
    notebook.write_text(notebook.read_text(encoding="utf-8").replace("CARDS = 4", "CARDS = four"), encoding="utf-8")
    assert kaggle_ship.main(["compete", "arc-prize-2024", "--root", str(clone)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert (clone / FILES[0]).read_bytes() == (ROOT / FILES[0]).read_bytes()
