"""Turns verified dreams into an adapter, and an adapter into merged weights."""
