"""Scores, reasons and explanations."""
