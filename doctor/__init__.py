"""The doctor: causes of a collapse or of scores that are too good, as ranked findings."""
