"""What records come to: latencies, rates, goodput, each computed from all of them, none sampled."""
