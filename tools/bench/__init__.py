"""What measures: speed, memory and sizes, beside the peers."""
