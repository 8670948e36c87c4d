"""Comparisons as tables, and tables as text, LaTeX, HTML and CSV."""
