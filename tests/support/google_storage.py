"""Google Cloud Storage on loopback, as a process: `python google_storage.py PORT BUCKET`. It gives tokens, too.

pyarrow's client may ask while it holds Python's lock, so the server must be a process of its own.
"""

import sys

from gcp_storage_emulator import server


def give_token(request, response, storage):
    """What Google's authorization server says to a refresh token."""
    response.json({"access_token": "planted-secret", "expires_in": 3600, "token_type": "Bearer"})


if __name__ == "__main__":
    server.HANDLERS += ((r"^/token$", {server.POST: give_token}),)
    server.create_server("127.0.0.1", int(sys.argv[1]), in_memory=True, default_bucket=sys.argv[2]).run()
