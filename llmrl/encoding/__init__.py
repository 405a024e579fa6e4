"""Text to tokens and back, whatever a tokenizer adds, strips or draws by itself; only `llmrl.chat` calls it."""
