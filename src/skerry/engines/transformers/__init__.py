"""Any model that Hugging Face's transformers can load, behind a small server of ours."""

ANSWERS_AT_ONCE = 8
"""Unless it is told otherwise."""
