"""What keeps a run alive and visible: devices, hosts, files, checkpoints, progress."""
