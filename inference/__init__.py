"""Churn Radar's Python side: forecasts, classifier, training, scoring, serving and the command line."""
