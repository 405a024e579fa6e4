"""Tools that a policy may call; each public file is a plug-in."""
