"""Turns memories into many verified training samples. Speaks only through an engine."""
