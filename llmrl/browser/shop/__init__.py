"""A small shop on loopback: SQLite behind a web server; tasks in it are judged by the database."""
