"""The study: methods and ablations by seed, and the tables of the paper beside ours."""
