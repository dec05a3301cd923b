"""Floor 1: pure decisions and data.

What has an ``if`` about policy is a plain function here; the async caller carries out its answer. No I/O, no clock,
no chance, no log, no async: time, random numbers and fresh ids arrive as arguments. import-linter and ruff hold this.
"""
