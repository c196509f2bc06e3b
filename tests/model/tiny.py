"""The smallest model of interest, for tests to vary by `dataclasses.replace`."""

from hrm_submit.config.schema import ModelConfig

TINY = ModelConfig(hidden_size=16, num_heads=2, H_layers=1, L_layers=1, H_cycles=1, L_cycles=1, puzzle_emb_ndim=16)
