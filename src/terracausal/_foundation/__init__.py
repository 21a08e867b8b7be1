"""Checks, errors, randomness, optional imports and progress: the ground floor."""
