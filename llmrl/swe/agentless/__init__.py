"""Agentless-Mini, the evaluation of SWE-RL: find files, repair with many samples, choose by tests and by majority."""
