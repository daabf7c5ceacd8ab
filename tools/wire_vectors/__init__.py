"""The vectors of docs/wire/vectors: payloads, good and bad, and what each has to become."""
