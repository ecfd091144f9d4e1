"""Facts: all SQL of the control plane; model objects in and out, every write guarded by what it believed."""
