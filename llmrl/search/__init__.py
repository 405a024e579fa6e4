"""Strategies of search at test time; the folder is the registry."""
