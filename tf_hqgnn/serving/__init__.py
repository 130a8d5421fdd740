"""A local server that speaks TF Serving's protocols, and a client for either."""
