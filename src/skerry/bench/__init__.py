"""An LLM inference benchmark: data, load, client, measure, report. It needs nothing of a cloud, only an endpoint."""
