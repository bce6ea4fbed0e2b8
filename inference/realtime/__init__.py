"""One customer's features and score, now."""
