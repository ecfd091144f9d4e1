"""When what is asked: by the clock, by as many users as there are, or by a trace. Pure."""
