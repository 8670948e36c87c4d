"""Tables, tests and figures over finished runs; reads MLflow and imports neither torch nor ray."""
