"""Learning-rate factor over a run: linear warm-up by segments, flat, linear decay by progress.

Progress runs from 0 to 1 and is the caller's to measure, in segments or in seconds: so a run of any length ends decayed.
"""

from hrm_submit.config.schema import TrainConfig


def rate_factor(segment: int, progress: float, config: TrainConfig) -> float:
    """Factor of every learning rate for segment number `segment` (from 0) at `progress` (0..1, clipped).

    Warm-up reaches 1 after `warmup_steps` segments; the decay takes the last `decay_fraction` of the run to `lr_min_ratio`.
    """
    warmup = min(1.0, (segment + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    start = 1.0 - config.decay_fraction
    if config.decay_fraction == 0.0 or progress <= start:
        return warmup
    left = max(0.0, 1.0 - progress) / config.decay_fraction
    return warmup * (config.lr_min_ratio + (1.0 - config.lr_min_ratio) * left)
