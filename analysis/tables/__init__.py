"""Writes results and comparisons as tables, and tables as text, Markdown, LaTeX, HTML, CSV and JSON."""
