"""Where things lie in a clone."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache"
RUNS = ROOT / "runs"
NOTEBOOKS = ROOT / "notebook"
OFFLINE_WHEELS = ROOT / "offline_wheels"
COMPETITIONS = Path(__file__).with_name("competitions")
LOCK = ROOT / "requirements.lock"
KAGGLE_IMAGE = Path(__file__).with_name("kaggle_image_2026.toml")


def own_weights(folder: Path) -> bool:
    """Whether `folder` holds weights that did not come with this repository."""
    packaged = {path.name for path in (ROOT / "hrm_submit" / "checkpoints").iterdir()}
    return any(path.name not in packaged for path in folder.glob("*.safetensors"))
