"""A small WSGI application: what its workers share, and what a web service uses of the system."""

import ctypes
import hashlib
import json
import multiprocessing
import os
import sqlite3
import ssl
import sys
import tempfile
import threading

# Made before the workers are (gunicorn --preload), so each of them counts into the same number.
visits = multiprocessing.Value("i", 0)


def report():
    with visits.get_lock():
        visits.value += 1
    with tempfile.TemporaryDirectory() as folder:
        database = sqlite3.connect(os.path.join(folder, "visits.db"))
        with database:
            database.execute("create table visit (worker integer)")
            database.execute("insert into visit values (?)", (os.getpid(),))
        (rows,) = database.execute("select count(*) from visit").fetchone()
        database.close()
    hashes = []
    thread = threading.Thread(
        target=lambda: hashes.append(hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 1000))
    )
    thread.start()
    thread.join()
    return {
        "version": sys.version.split()[0],
        "tls": ssl.OPENSSL_VERSION,
        "uid": os.getuid(),
        "parent": os.getppid(),
        "worker": os.getpid(),
        "visits": visits.value,
        "rows": rows,
        "hash": hashes[0].hex(),
        "pid": ctypes.CDLL(None).getpid(),
    }


def application(environ, start_response):
    body = b"ok\n" if environ["PATH_INFO"] == "/healthz" else json.dumps(report()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
