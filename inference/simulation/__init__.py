"""A simulated shop with all seven raw tables and a hidden truth; see docs/simulated-shop.md."""
