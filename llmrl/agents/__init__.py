"""Programs that play episodes by themselves; each public file is a plug-in."""
