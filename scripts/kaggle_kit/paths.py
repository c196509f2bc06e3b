"""Paths of a clone."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUNS = ROOT / "runs"
NOTEBOOKS = ROOT / "notebook"
OFFLINE_WHEELS = ROOT / "offline_wheels"
COMPETITIONS = Path(__file__).with_name("competitions")
KAGGLE_IMAGE = Path(__file__).with_name("kaggle_image_2026.toml")
