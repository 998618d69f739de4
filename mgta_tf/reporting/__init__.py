"""The report: what a workdir holds, as figures, as one page."""
