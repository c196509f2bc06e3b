"""Whether a model is large enough for ARC's grids, whatever trained it and whatever it is to solve."""

from __future__ import annotations

from hrm_submit.arc.canvas import FIRST_COLOUR, FULL_SIDE
from hrm_submit.arc.task import N_COLOURS
from hrm_submit.core.config import ModelConfig
from hrm_submit.core.errors import ConfigError


def check_model(model: ModelConfig, source: str) -> None:
    """Raise ConfigError, naming `source`, unless every canvas fits the model."""
    for key, least in (("seq_len", FULL_SIDE**2), ("vocab_size", FIRST_COLOUR + N_COLOURS)):
        if getattr(model, key) < least:
            raise ConfigError(f"{source}: [model] {key} = {getattr(model, key)} is too small for ARC's grids, which need {least}")
