"""Measuring: ablations, benchmark rows, rules of voting, the budget and its replay, and runs that are killed. Run at home only."""
