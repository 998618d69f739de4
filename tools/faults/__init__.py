"""Fault-injection tests: kills, signals, full disks, damaged files, lost hosts."""
