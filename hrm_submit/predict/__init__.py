"""From a trained model to two attempts: ACT inference over augmented views, un-augmenting, voting."""
