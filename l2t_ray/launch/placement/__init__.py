"""Which pack gets which share of which device, and how long everything takes, for plan, launch and ETA."""
