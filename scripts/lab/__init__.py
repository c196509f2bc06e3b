"""Measure: ablations, the benchmark, voting rules, the budget. Runs at home only."""
