"""What was decided? Transactional tables and the hash-chained audit."""
