"""Alerts and their delivery to people."""
