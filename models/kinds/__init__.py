"""Kinds of models: the network, the loading and the import of each."""
