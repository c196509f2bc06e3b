"""What goes to Kaggle and what rehearses it: client, package, wheels, the simulated machine. Run at home only, never in a notebook."""
