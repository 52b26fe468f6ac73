"""An app for a sandbox: a page that talks to itself over a WebSocket. Standard library only, because a
sandbox has nothing else. The port is its argument."""

import base64
import hashlib
import struct
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
PAGE = b"""<!DOCTYPE html><title>echo</title><p id="said">nothing yet</p><script>
const socket = new WebSocket(`ws://${location.host}/echo`);
socket.onopen = () => socket.send("hello from the browser");
socket.onmessage = (event) => { document.getElementById("said").textContent = event.data; };
</script>"""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/echo":
            self.echo()
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(PAGE)))
        self.send_header("Set-Cookie", "theirs=1; Domain=preview.localhost; Path=/")
        self.send_header("X-Seen-Cookie", self.headers.get("Cookie", "none"))
        self.end_headers()
        self.wfile.write(PAGE)

    def echo(self) -> None:
        key = self.headers["Sec-WebSocket-Key"] + GUID
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", accept)
        self.end_headers()
        self.close_connection = True
        while (text := self.read()) is not None:
            said = b"echo: " + text
            self.wfile.write(bytes([0x81, len(said)]) + said)
            self.wfile.flush()

    def read(self) -> bytes | None:
        """The next text; frames of more than 125 bytes do not come here."""
        head = self.rfile.read(2)
        if len(head) < 2 or head[0] & 15 != 1:
            return None
        length = head[1] & 127
        mask = self.rfile.read(4)
        masked = self.rfile.read(length)
        return struct.pack(f"{length}B", *(b ^ mask[n % 4] for n, b in enumerate(masked)))


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
