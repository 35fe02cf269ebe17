"""Rules that others use to stop a bad canary, and the streams of requests on which they and the judge are compared."""
