"""SSH into sandboxes: one listener that lets in who holds a key of the sandbox, and leads only into that one."""
