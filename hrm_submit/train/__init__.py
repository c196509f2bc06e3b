"""Training: optimizers, schedules, batches, and the one loop that pre-training, test-time training and ablations share."""
