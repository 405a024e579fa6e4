"""Is this machine fit, is this algorithm right?"""
