"""The tools that ``peers.py`` compares, one module for each, and what they share."""
