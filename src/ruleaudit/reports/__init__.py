"""Reports: what becomes of a `Report` for people and for programs."""
