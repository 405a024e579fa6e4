"""Learning algorithms: who deserves credit and which loss each model learns from."""
