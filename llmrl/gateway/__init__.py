"""An OpenAI-compatible server before an engine, which records every token that an agent program was given."""
