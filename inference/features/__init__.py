"""Features that SQL cannot compute."""
