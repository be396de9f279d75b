"""AWS's wire formats: JSON 1.0 and 1.1, query and REST-XML, driven by botocore's service models.

The codec decodes requests and encodes answers. It works on plain values: method, path, query, headers and body. So the
in-process transport and the HTTP server share it.
"""
