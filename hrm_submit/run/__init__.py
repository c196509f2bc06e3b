"""The run: TTT sessions in worker processes, a supervisor that never loses an answer, the submission file.

Nothing in here, and nothing that it imports, can read a solution.
"""
