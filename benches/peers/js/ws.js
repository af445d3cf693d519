// An echo and fan-out server on `ws` and Node's http server, as its own documentation writes them.
//
// /echo sends back what comes, /sub hears what is published, /pub publishes. Run: node ws.js PORT

import { WebSocket, WebSocketServer } from "ws";

const subscribers = new Set();
const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[2]), perMessageDeflate: false });

server.on("connection", (socket, request) => {
  // Whatever ends a connection ends only that one.
  socket.on("error", () => socket.terminate());
  if (request.url === "/echo") {
    socket.on("message", (message, binary) => socket.send(message, { binary }));
  } else if (request.url === "/pub") {
    socket.on("message", publish);
  } else {
    subscribers.add(socket);
    socket.on("close", () => subscribers.delete(socket));
  }
});

function publish(message, binary) {
  for (const socket of subscribers) {
    if (socket.readyState === WebSocket.OPEN) {
      socket.send(message, { binary });
    }
  }
}
