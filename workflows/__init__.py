"""Workflows: what each command does, as one function."""
