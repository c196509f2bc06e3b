"""Everything that reads known answers: data sets, solutions, scores, and what may not be trained on. What solves cannot import it."""
