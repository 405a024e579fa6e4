"""`python -m llmrl`, and what `accelerate launch -m llmrl` runs."""

from llmrl.cli.main import main

if __name__ == "__main__":
    main()
