"""Transform jobs: their hosts, the division of objects into payloads, and the assembly of answers."""
