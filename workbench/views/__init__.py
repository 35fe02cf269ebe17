"""How does it look? Values to text, tables, figures and HTML; no I/O."""
