"""Optuna chooses the settings of the next runs; everything else of a search is a launch."""
