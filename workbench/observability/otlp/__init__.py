"""Traces of OpenTelemetry: read from the wire, named alike whatever dialect they speak, and put together as requests."""
