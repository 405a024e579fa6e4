"""Simulators of users: one file each, named as the environment `dialogue` names them."""
