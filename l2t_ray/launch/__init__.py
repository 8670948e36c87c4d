"""Trains what a sweep still lacks: one launch from the checks to the summary."""
