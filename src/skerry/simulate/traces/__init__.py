"""Where work to replay comes from: one file per format, and one that makes it up."""
