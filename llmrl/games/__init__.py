"""Text games: rules as pure functions of a state, their text form, and scripted players."""
