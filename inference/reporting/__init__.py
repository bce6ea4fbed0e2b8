"""The report, backtests and printed tables."""
