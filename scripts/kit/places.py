"""Where things lie in a clone."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache"
RUNS = ROOT / "runs"
NOTEBOOKS = ROOT / "notebook"
OFFLINE_WHEELS = ROOT / "offline_wheels"
BOX = ROOT / "hrm_submit" / "checkpoints"
COMPETITIONS = ROOT / "hrm_submit" / "competitions"
LOCK = ROOT / "requirements.lock"
KAGGLE_IMAGE = ROOT / "scripts" / "data" / "kaggle_image_2026.toml"
