"""What a run leaves: a table for the terminal, JSON, CSV, Markdown, one page of HTML."""
