"""Comparisons and traces as figures."""
