"""Running and scoring episodes, and making samples of them."""
