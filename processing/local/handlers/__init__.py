"""The operations of each service, as functions from params to result over the stores."""
