"""Compares a new model with the old one and says whether it may serve."""
