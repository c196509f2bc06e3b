"""One task solved: weights and a task in, ranked candidates out, by test-time training and votes. No processes, no files."""
