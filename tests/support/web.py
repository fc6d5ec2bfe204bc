"""A small web server on this machine that behaves well or badly, as a test wishes."""

import contextlib
import http.server
import threading


class Site:
    """Files by path, and how the server treats them.

    Attributes:
        files: content by path.
        cut_after: bytes after which an answer breaks off, one entry per request; then no more cuts.
        statuses: codes to answer the next requests with.
        ranges: whether it knows ranges.
        etag: version of the files.
        log: (path, Range header) of every request.
    """

    def __init__(self):
        self.files = {}
        self.cut_after = []
        self.statuses = []
        self.ranges = True
        self.etag = '"1"'
        self.log = []
        self.content_type = "application/octet-stream"
        self.lengths = True
        self.gate = None
        self.redirect = {}


class Handler(http.server.BaseHTTPRequestHandler):
    site: Site

    def do_GET(self):
        site = self.site
        site.log.append((self.path, self.headers.get("Range")))
        if site.gate is not None:
            site.gate.wait(10)
        if self.path in site.redirect:
            self.send_response(302)
            self.send_header("Location", site.redirect[self.path])
            self.end_headers()
            return
        if site.statuses:
            self.send_error(site.statuses.pop(0))
            return
        content = site.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = 0
        wanted = self.headers.get("Range")
        fresh = self.headers.get("If-Range") in (None, site.etag)
        if site.ranges and wanted and fresh:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Type", site.content_type)
        if site.etag:
            self.send_header("ETag", site.etag)
        body = content[start:]
        if site.lengths:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if site.cut_after:
            body = body[: site.cut_after.pop(0)]
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def serving():
    """Yields the site and its address."""
    site = Site()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Handler,), {"site": site}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield site, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
