"""Computes all evidence once and writes it as a page, an answer, a paragraph and JSON."""
