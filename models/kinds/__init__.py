"""Kinds of models: one file or a few for each, with all that is special to it."""
