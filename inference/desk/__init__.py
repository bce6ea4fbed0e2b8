"""The retention desk: the published tables as pages that a manager reads at once; it writes nothing."""
