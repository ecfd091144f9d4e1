"""Services in sandboxes: started in order, looked after, adopted by the next agent, stopped in order."""
