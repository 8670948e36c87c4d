"""Trains one pack of runs on one device, from start or checkpoint to outcome; knows neither Ray nor MLflow."""
