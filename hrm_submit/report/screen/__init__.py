"""What is shown in a terminal and in a notebook: tasks, predictions, runs, and a run in progress."""
