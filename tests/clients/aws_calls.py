"""Shared by the tests and steps that use boto3."""

import botocore.exceptions


def refused(code, call, **arguments):
    """A call that EC2's API refuses with a code; the message."""
    try:
        answer = call(**arguments)
    except botocore.exceptions.ClientError as error:
        assert error.response["Error"]["Code"] == code, error
        return error.response["Error"]["Message"]
    raise AssertionError(f"wanted {code}, got {answer}")
