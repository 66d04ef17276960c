"""The programs: ``yggpy-node``, with the flags, texts and files of Go's ``yggdrasil`` (protocol section 14)."""
