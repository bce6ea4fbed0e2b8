"""A simulated shop with all seven raw tables and a hidden truth; see docs/simulated-shop.md."""

from inference.simulation.shop import SimulationSettings, simulate

__all__ = ["SimulationSettings", "simulate"]
