"""What keeps a run alive and visible: devices, checkpoints, monitoring."""
