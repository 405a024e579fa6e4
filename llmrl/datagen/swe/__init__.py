"""Rows of software engineering, from repositories and from files in SWE-bench's form."""
