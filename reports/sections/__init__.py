"""The sections of a tearsheet, each a function from a stored run to markup."""
