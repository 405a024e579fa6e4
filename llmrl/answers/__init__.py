"""Reading and comparing final answers: extraction, parsing, equality, voting. No torch, no plug-ins."""
