"""Metrics. Imports nothing else of the project."""
