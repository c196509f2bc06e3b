"""Tasks, data sets, augmentation, the token canvas, scoring and the submission format. numpy and numba only, no torch."""
