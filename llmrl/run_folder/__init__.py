"""The files of a run: records, their reader, ownership, manifest, curves. Never imports torch."""
