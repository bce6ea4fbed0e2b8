"""Texts: cleaning, masking, embeddings, pooling."""
