"""Pure decisions: no clock, no I/O, no vendor but numpy, zstd, xxhash and msgspec."""
