"""Ada Memory: a day and a night for a local language model."""

__version__ = "0.1.0"
