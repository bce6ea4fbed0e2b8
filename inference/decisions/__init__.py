"""Retention decisions."""
