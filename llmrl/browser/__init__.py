"""Pages in a real Chromium as environments: a thin client of the DevTools protocol, and what tasks share."""
