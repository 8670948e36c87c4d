"""What has been trained, with which result: the only room that knows MLflow."""
