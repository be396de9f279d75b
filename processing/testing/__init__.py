"""Help for tests: a clock that costs no time, and faults on the wire. Nothing outside of tests imports this package."""
