"""Sentence encoders and the runtimes that run them."""
