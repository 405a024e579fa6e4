"""Software engineering: edits and patches of repositories, SWE-bench's rules, logs of tests, rows and prompts."""
