"""What one stream owes its reader: each token once and in order, whatever arrives.

The same rules as client/stream_core.h, in few words: `next` is the index wanted next; a token with
a lower index was delivered before and is dropped; one with a higher index shows a gap and asks for
a Resume, once; a Finish counts only if total and CRC-32C of the ids agree. No I/O here.
"""

_TABLE = []
for _byte in range(256):
    _crc = _byte
    for _ in range(8):
        _crc = (_crc >> 1) ^ (0x82F63B78 if _crc & 1 else 0)
    _TABLE.append(_crc)


def crc32c(crc, ids):
    """CRC-32C over ids as little-endian 32-bit numbers, continued from `crc`."""
    crc ^= 0xFFFFFFFF
    for value in ids:
        crc ^= value
        for _ in range(4):
            crc = (crc >> 8) ^ _TABLE[crc & 255]
    return crc ^ 0xFFFFFFFF


class Delivery:
    def __init__(self, window):
        self.window = window
        self.ids = []  # delivered so far; next == len(ids)
        self.crc = 0
        self.consumed = 0  # handed to the reader
        self.acked = 0
        self.accepted = False
        self.resuming = False
        self.crowded = False  # dropped something, for the reader is two windows behind
        self.doubted = False
        self.losses = 0

    @property
    def next(self):
        return len(self.ids)

    def connected(self):
        """The first message on a new link: "resume" or "submit"."""
        return self.resume() if self.accepted else self.submit()

    def submit(self):
        self.resuming = self.crowded = False
        self.acked = self.next
        return "submit"

    def resume(self):
        self.resuming = True
        self.crowded = False
        self.acked = self.next
        return "resume"

    def on_accepted(self):
        self.accepted = True
        self.resuming = self.crowded = False

    def on_tokens(self, first, ids):
        """(skip, take, action): tokens [skip, skip + take) are new."""
        if first > self.next:
            return 0, 0, None if self.resuming or self.crowded else self.resume()
        skip = self.next - first
        take = max(0, len(ids) - skip)
        room = 2 * self.window - (self.next - self.consumed)
        if take > room:
            take = room
            self.crowded = True
        if take:
            new = ids[skip : skip + take]
            self.crc = crc32c(self.crc, new)
            self.ids.extend(new)
            self.losses = 0
        return skip, take, None

    def on_finish(self, total, crc):
        """ "finish", "resume", "corrupt" or None."""
        if total == self.next and crc == self.crc:
            return "finish"
        if self.resuming or self.crowded:
            return None
        if total <= self.next:
            if self.doubted:
                return "corrupt"
            self.doubted = True
        return self.resume()

    def on_consumed(self, count):
        self.consumed += count
        if self.crowded and not self.resuming and self.next - self.consumed <= self.window:
            return self.resume()
        return None

    def ack(self, lazily):
        """The next_wanted of an Ack that is due, or None."""
        if not self.accepted or self.consumed <= self.acked:
            return None
        if lazily and self.consumed - self.acked < self.window // 4:
            return None
        self.acked = self.consumed
        return self.acked
