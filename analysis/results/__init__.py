"""Reads the ledger into cells and comparisons."""
