"""What stands around a model call? Route, deadline, audit, redaction, and the bundle that serves."""
