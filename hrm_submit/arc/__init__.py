"""Tasks and grids: the reader, augmentation, the token canvas, the submission file. No answers, no torch."""
