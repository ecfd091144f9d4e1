"""What `skerry.yaml` does: the file read, compared with what there is, and made so through the client."""
