"""A YAML file becomes runs by key; every mistake is reported with its line."""
