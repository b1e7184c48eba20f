"""gaggle: stream answers of a large language model from a gaggle router.

    import gaggle

    with gaggle.Client("tcp://127.0.0.1:7400") as client:
        for token in client.generate("Geese fly in a V because", max_tokens=50):
            print(token.text, end="", flush=True)

Every token reaches you exactly once and in order, whatever happens to connections and the router.
"""

from .client import Client, Error, Finish, Stream, Token

__all__ = ["Client", "Error", "Finish", "Stream", "Token"]
