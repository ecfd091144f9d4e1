"""safetensors to GGUF, in a program of its own."""
