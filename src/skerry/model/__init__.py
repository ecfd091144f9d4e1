"""What the cloud is: one file per noun with its spec, record, states and MOVES table. No I/O, no clock."""
