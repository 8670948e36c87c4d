"""The command `l2t`: one door to planning, training, reports and advice. Nothing imports this package."""

import l2t_ray  # noqa: F401  puts the working folder last among the places of modules: an analysis.py there is not ours
