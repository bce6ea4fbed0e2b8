"""Events that the service accepted, and the log that keeps them."""
