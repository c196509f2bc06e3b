"""Rules of voting, compared on the same saved predictions."""
