"""The fused transformer."""
