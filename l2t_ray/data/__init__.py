"""Images on disk become tensors of bytes, and a seed chooses which of them a run trains on."""
