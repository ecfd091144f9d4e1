"""The peers Skerry is measured beside: crun with hand-made disk and network (the floor), and podman."""
