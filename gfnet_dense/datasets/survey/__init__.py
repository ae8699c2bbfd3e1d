"""Surveys of the data of a config: all files are read, and all problems are listed."""
