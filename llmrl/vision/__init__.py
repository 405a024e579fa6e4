"""Pictures that a policy or a reward looks at."""
