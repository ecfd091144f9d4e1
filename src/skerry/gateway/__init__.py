"""HTTP into sandboxes: one listener, each request passed on to the port of the sandbox that its Host header names."""
