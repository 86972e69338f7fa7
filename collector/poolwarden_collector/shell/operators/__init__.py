"""The operator's API: requests in, replies out, who may ask."""
