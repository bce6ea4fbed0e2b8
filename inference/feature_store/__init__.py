"""Feast: its client, contracts, stores and compute engine."""
