"""Fetching: bars from exchanges and public archives into a file."""
