"""Strategies: the plug-in base, the built-in strategies, and the registry that finds your own."""
