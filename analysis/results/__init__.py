"""Reads the ledger into cells (runs that differ only in their seed) and comparisons of two methods."""
