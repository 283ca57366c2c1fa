"""Plug-ins for flagbt: one of each kind that a package can offer."""
