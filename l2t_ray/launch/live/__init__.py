"""What a launch shows while it lasts."""
