"""The record of a run: typed events and predictions in a run folder, one writer, one reader."""
