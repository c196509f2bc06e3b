"""The HRM itself: layers, recurrence, adaptive computation, task embeddings, losses, weights files.

Knows torch and nothing of tasks, clocks or Kaggle. Importing it touches no accelerator.
"""
