"""Images: where they come from, how they are checked, sampled and fed."""
