"""Generations of a mind: kept, activated, probed, rolled back."""
