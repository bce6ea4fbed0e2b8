"""Keeping a home folder: backup, restore, and a check of everything in it."""
