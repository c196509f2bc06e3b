"""Changing weights: optimizers, schedules, batches and the one training loop that pre-training and TTT share."""
