"""Code of remote functions that runs in the job: the boot program, and the modules that it starts.

The modules travel in the bundle of each call as the package `_processing_remote`, so they import each other relatively.
"""
