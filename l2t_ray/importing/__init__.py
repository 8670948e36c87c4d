"""Runs that other tools have trained become runs of the ledger, so that a report can judge them."""
