"""An origin to try a plugin on: `python3 origin.py PORT SECONDS NAME [STATUS]` answers each GET after so long with its
name and the path."""

import http.server
import sys
import time


class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body in one packet.
    wbufsize = -1

    def do_GET(self):
        time.sleep(float(sys.argv[2]))
        body = f"{sys.argv[3]} {self.path}\n".encode()
        self.send_response(int(sys.argv[4]) if len(sys.argv) > 4 else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, *arguments):
        pass  # A client that has gone.


Server(("127.0.0.1", int(sys.argv[1])), Origin).serve_forever()
