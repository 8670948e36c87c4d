"""A trainer of the user's own: a Python function or a command, its settings, its runs, and how one is carried out."""
