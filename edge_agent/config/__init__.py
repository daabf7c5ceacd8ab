"""The configuration: `structs` says what there is, `load` reads, merges and checks it."""
