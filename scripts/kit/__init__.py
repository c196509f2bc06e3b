"""What the scripts share: places, competitions, the wheel, the simulated Kaggle machine. Run at home only, never in a notebook."""
