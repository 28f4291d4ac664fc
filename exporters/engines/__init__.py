"""Engines' metrics pages, read into the catalogue's families or passed on as they stand."""
