"""Every call of the control API, one file per noun. Functions of arguments to `Call`; no I/O."""
