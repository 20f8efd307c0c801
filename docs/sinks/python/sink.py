#!/usr/bin/env python3
"""A small sink for Ledgerline in Python, standard library only. It books each item
once and refuses stale workers, also after a restart:

    python3 docs/sinks/python/sink.py --listen 127.0.0.1:8088 --data bookings.sqlite
    LEDGERLINE_SINK=http://127.0.0.1:8088/ ledgerline up

The "accounting system" is the table bookings. Replace it by a call to yours, and read
docs/sinks.md for what that must keep.
"""

import argparse
import json
import sqlite3
import sys
import threading
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MAX_BODY = 32 << 20  # above any export item; a larger body is no item

TABLES = """
PRAGMA synchronous = FULL; -- on disk before it is answered for
CREATE TABLE IF NOT EXISTS bookings (
    number INTEGER PRIMARY KEY,
    key    TEXT NOT NULL UNIQUE, -- the idempotency key: with the booking, in one row
    item   TEXT NOT NULL,        -- the body as received: no number is rounded
    at     TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS epochs (job TEXT PRIMARY KEY, epoch INTEGER NOT NULL);
"""


class Stale(Exception):
    """A newer worker has this job."""


class Books:
    """What was booked, and which worker may book."""

    def __init__(self, path):
        self.lock = threading.Lock()
        self.db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self.db.executescript(TABLES)

    def book(self, job, epoch, key, body):
        """Book once: fence, look-up, booking and key are one transaction."""
        with self.lock:
            self.db.execute("BEGIN IMMEDIATE")
            try:
                external_id, again = self._book(job, epoch, key, body)
                self.db.execute("COMMIT")
                return external_id, again
            except BaseException:
                self.db.execute("ROLLBACK")
                raise

    def _book(self, job, epoch, key, body):
        seen = self.db.execute("SELECT epoch FROM epochs WHERE job = ?", (job,)).fetchone()
        if seen and epoch < seen[0]:
            raise Stale
        self.db.execute(
            "INSERT INTO epochs VALUES (?, ?) ON CONFLICT (job) DO UPDATE SET epoch = excluded.epoch", (job, epoch)
        )
        known = self.db.execute("SELECT number FROM bookings WHERE key = ?", (key,)).fetchone()
        if known:
            return "JE-%d" % known[0], True
        number = self.db.execute(
            "INSERT INTO bookings (key, item, at) VALUES (?, ?, ?)",
            (key, body, datetime.now(timezone.utc).isoformat()),
        ).lastrowid
        return "JE-%d" % number, False


def check(item):
    """What this sink asks of an item. Without a payload (LEDGERLINE_PAYLOAD=none) it
    books the entry by its id."""
    if item is None:
        return None
    if not isinstance(item, dict) or not item.get("accountingEntryId") or not item.get("amount"):
        return "The entry has no id or no amount"
    return None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps connections open
    wbufsize = -1  # status and body leave together
    timeout = 120

    def do_HEAD(self):  # "are you ready?"
        self.answer(200)

    def do_POST(self):
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            length = -1
        if not 0 <= length <= MAX_BODY:
            self.close_connection = True
            return self.answer(400, failureReason="This is no delivery of Ledgerline")
        body = self.rfile.read(length)
        if len(body) < length:  # cut off: nothing is booked
            self.close_connection = True
            return self.answer(503)
        key, job = self.headers.get("Idempotency-Key"), self.headers.get("Ledgerline-Job-Id")
        try:
            item = json.loads(body)["item"]
            epoch = int(self.headers.get("Ledgerline-Epoch", ""))
        except (ValueError, KeyError, TypeError):
            item, key = None, None
        if not key or not job:
            return self.answer(400, failureReason="This is no delivery of Ledgerline")
        problem = check(item)
        if problem:
            return self.answer(422, failureReason=problem, failureReasonType="validation_failure")
        try:
            external_id, again = self.server.books.book(job, epoch, key, body.decode())
        except Stale:
            return self.answer(412)
        except sqlite3.Error as error:  # the disk, or your system, is away: the item comes again
            print(error, file=sys.stderr)
            return self.answer(503)
        return self.answer(409 if again else 201, externalId=external_id)

    def answer(self, status, **fields):
        body = json.dumps(fields).encode() if fields else b""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128


def main():
    parser = argparse.ArgumentParser(description="A small sink for Ledgerline.")
    parser.add_argument("--listen", default="127.0.0.1:8088")
    parser.add_argument("--data", default="bookings.sqlite")
    args = parser.parse_args()
    host, _, port = args.listen.rpartition(":")
    server = Server((host, int(port)), Handler)
    server.books = Books(args.data)
    print("listening on %s:%d" % server.server_address[:2], flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
