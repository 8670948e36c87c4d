"""l2t-ray: thousands of small transfer-learning runs, trained, recorded and judged."""

__version__ = "0.1.0"
