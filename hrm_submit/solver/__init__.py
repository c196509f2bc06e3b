"""One task solved: weights and a task in, ranked candidates out. No processes, no policy of time, no files.

`TaskSolver` trains a model on a task's demonstrations (test-time training) and lets it vote; workers, ablations and `hrm_submit.Solver`
all call it.
"""
