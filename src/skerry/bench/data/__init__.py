"""What is asked: conversations of one or many turns, made up or read from files and traces."""
