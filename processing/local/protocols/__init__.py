"""AWS's wire formats, driven by botocore's service models: JSON 1.1, query and REST-XML, requests in and answers out.

The codec works on plain values (method, path, query, headers, body), so the in-process transport and an HTTP server use
the same one.
"""
