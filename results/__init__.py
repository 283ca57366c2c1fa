"""Results: the record of a run, what is measured of it, and how much of it could be luck."""
