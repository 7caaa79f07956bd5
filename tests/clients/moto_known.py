"""moto's tests of served calls that the gateway does not pass, and why."""

KNOWN = {}
