"""What happens on the machine that trains a pack: its files, its checkpoints, its notice of preemption."""
