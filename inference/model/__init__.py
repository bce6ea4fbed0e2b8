"""The churn model: its members, their average and its level."""
