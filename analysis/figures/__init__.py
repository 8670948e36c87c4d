"""Draws comparisons, learning curves and traces; one style for all figures."""
