"""Any model that Hugging Face's transformers can load, behind a small server of ours."""
